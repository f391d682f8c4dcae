//! What has to happen in one step on the server, in Lua. Each script is sent whole: Redis compiles it once
//! and knows it by its hash, and nothing has to be loaded again after a restart.

use redis::Cmd;

/// The consumer in whose name entries are pending. Who has a partition stands in its lease, so one name
/// serves all members, and none is left behind.
pub(crate) const CONSUMER: &str = "trunkline";

pub(crate) const BEAT: &str = concat!(include_str!("lua/open.lua"), include_str!("lua/beat.lua"));
pub(crate) const RELEASE: &str = include_str!("lua/release.lua");
pub(crate) const COMMIT: &str = include_str!("lua/commit.lua");
pub(crate) const MOVE: &str = concat!(include_str!("lua/open.lua"), include_str!("lua/move.lua"));
pub(crate) const LAG: &str = concat!(include_str!("lua/open.lua"), include_str!("lua/lag.lua"));
pub(crate) const TRIM: &str = concat!(include_str!("lua/open.lua"), include_str!("lua/trim.lua"));
pub(crate) const DECLARE: &str = include_str!("lua/declare.lua");

/// A call of a script with its keys; arguments follow.
pub(crate) fn eval<K: AsRef<str>>(script: &str, keys: &[K]) -> Cmd {
    let mut cmd = Cmd::new();
    cmd.arg("EVAL").arg(script).arg(keys.len());
    for key in keys {
        cmd.arg(key.as_ref());
    }
    cmd
}
