//! What a newcomer sees first.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use trunkline::{Error, Program as _, Result};

use crate::program::CARDS;
use crate::{Store, demo};

/// How long the demo user's token is good for.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// What the demo user buys.
const TEA_SET: &str = "550e8400-e29b-41d4-a716-446655440004";

/// Addresses, a token, and how to order something with it.
pub(crate) fn text(store: &Store) -> Result<String> {
    let (gateway, admin) = (store.running().gateway_url(), store.running().admin_url());
    let token = store.token(demo::USERNAME, &[], TOKEN_LIFETIME)?;
    let signed_in = format!("-H '@{}'", header_file(store.data(), &token)?.display());
    let payments = match store.provider_url() {
        // Another process knows.
        "" => String::new(),
        url => format!("  payments  {url}   the payment provider's sandbox\n"),
    };
    let mut text = String::new();
    let written = write!(
        text,
        "
  gateway   {gateway}
  admin     {admin}   /health  /metrics  /api/v1/events  /api/v1/flows
{payments}  data      {data}   mail in {mail}

The demo user ({user} / {password}) has this token for a day:

  {token}

An order in five lines:

  curl -s '{gateway}/api/products?q=tea+set&limit=3'
  curl -s {signed_in} --json '{{\"product_id\":\"{TEA_SET}\",\"quantity\":2}}' {gateway}/api/cart/items
  curl -s {signed_in} -H \"Idempotency-Key: $(date +%s%N)\" --json '{{}}' {gateway}/api/v1/orders
  curl -s {signed_in} '{gateway}/api/v1/orders?limit=1'
  curl -s {gateway}/api/inventory/{TEA_SET}

The statistics at {gateway}/api/analytics/funnel are for an admin, whose token comes from

  {program} token --user boss --role admin --data {data}

{CARDS}

What happens to orders shows here; Ctrl-C stops the store, and the next start goes on from there.

time           after  order     event                          what happened
",
        program = program(),
        data = store.data().display(),
        mail = store.data().join("mail").display(),
        user = demo::USERNAME,
        password = demo::PASSWORD,
    );
    written.map_err(|error| Error::internal("a text can't be written").with_source(error))?;
    Ok(text)
}

/// How this program was started.
fn program() -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    program.to_string_lossy().into_owned()
}

/// What a newcomer to the sandbox sees.
pub(crate) fn sandbox(url: &str) -> String {
    format!(
        "The payment sandbox is up.\n\n  POST {url}/v1/charges   GET {url}/v1/charges\n\n{CARDS}\n"
    )
}

/// Keeps the demo user's token where `curl -H @file` reads it, for its owner alone.
fn header_file(data: &Path, token: &str) -> Result<PathBuf> {
    let path = data.join("demo-user.header");
    let written = std::path::absolute(&path).and_then(|absolute| {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        writeln!(options.open(&absolute)?, "Authorization: Bearer {token}")?;
        Ok(absolute)
    });
    written.map_err(|error| {
        Error::unavailable("header_unwritable", "the demo user's token can't be kept")
            .with("file", path.display())
            .with_source(error)
    })
}
