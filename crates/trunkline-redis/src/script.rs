//! What has to happen in one step on the server, in Lua. Each script is sent whole: Redis compiles it once
//! and knows it by its hash, and nothing has to be loaded again after a restart.

use redis::Cmd;

/// The consumer in whose name entries are pending. Who has a partition stands in its lease, so one name
/// serves all members, and none is left behind.
pub(crate) const CONSUMER: &str = "trunkline";

/// What members need to go on with runs also when the server's memory is full: it is how it gets less full.
macro_rules! vital {
    ($($part:literal),+) => {
        concat!("#!lua flags=allow-oom\n", $(include_str!($part)),+)
    };
}

pub(crate) const BEAT: &str = vital!("lua/open.lua", "lua/beat.lua");
pub(crate) const RELEASE: &str = vital!("lua/release.lua");
pub(crate) const COMMIT: &str = vital!("lua/commit.lua");
pub(crate) const MOVE: &str = vital!("lua/open.lua", "lua/move.lua");
/// Ends the wait of the member whose stream this is.
pub(crate) const WAKE: &str = concat!(
    "#!lua flags=allow-oom\n",
    "return redis.call('XADD', KEYS[1], 'MAXLEN', 1, '*', 'wake', '')"
);

/// Who announced itself is known also when the server's memory is full.
pub(crate) const ANNOUNCE: &str = vital!("lua/announce.lua");
pub(crate) const WITHDRAW: &str = vital!("lua/withdraw.lua");
pub(crate) const INSTANCES: &str = vital!("lua/instances.lua");

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
