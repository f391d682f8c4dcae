//! What somebody sees who starts the site.

use trunkline::Program as _;

use crate::Site;

/// Addresses, and how to play.
pub(crate) fn text(site: &Site) -> String {
    let running = site.running();
    format!(
        "
  play      {gateway}/   in two windows of a browser, or with a friend
  gateway   {gateway}
  admin     {admin}   /health  /metrics  /api/v1/sagas  /api/v1/events
  data      {data}

Without a browser: an account, a game, and who is best

  curl -s --json '{{\"email\": \"ada@example.com\", \"username\": \"ada\", \"password\": \"correct horse\"}}' \\
    {gateway}/api/v1/auth/register
  curl -s -H \"Authorization: Bearer $TOKEN\" --json '{{\"kind\": \"chess\", \"clock\": {{\"minutes\": 5}}}}' \\
    {gateway}/api/v1/games
  curl -s {gateway}/api/v1/leaderboard

Ctrl-C stops the site, and the next start goes on from there.
",
        gateway = running.gateway_url(),
        admin = running.admin_url(),
        data = site.data().display(),
    )
}
