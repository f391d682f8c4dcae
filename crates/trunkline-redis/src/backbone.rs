//! Redis as what the nodes of a realtime server share.
//!
//! | | Redis, with the prefix `trunkline:` |
//! |---|---|
//! | what was sent | stream `trunkline:{realtime:NAME}:log`, the last 10,000 entries or so ([`RedisBackbone::keeping`]); field `e` |
//! | who was cut off | string `trunkline:{realtime:NAME}:away:KEY`, which expires |

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use redis::aio::ConnectionLike as _;
use redis::{Cmd, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;
use trunkline_core::{Error, Result};
use trunkline_realtime::{Backbone, Offset};

use crate::config::RedisConfig;
use crate::link::{Connection, Link};
use crate::{error, value};

/// About so many entries are kept, where nothing else is said.
const KEPT: usize = 10_000;
/// So many are read at once.
const READ_MAX: usize = 512;
/// A read waits so long for the first one.
const WAITS: Duration = Duration::from_secs(5);
/// And its answer so much longer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// A log on a Redis server that the nodes of one realtime server share. A connection is made when it is needed.
///
/// # Guarantees
/// An entry is in the log when the server has taken it; whether it survives the server's end is the server's setting. With a server that forgets,
/// nobody comes back as who they were, and everybody goes on.
pub struct RedisBackbone(Arc<Inner>);

struct Inner {
    link: Link,
    /// Waits for entries; nothing else may wait behind that.
    reader: Mutex<Option<Connection>>,
    log: String,
    kept: usize,
    away: String,
}

impl RedisBackbone {
    /// On the server of a URL such as `redis://localhost:6379/0?prefix=games:`, under a name that all nodes have.
    ///
    /// # Shape
    /// As [`RedisConfig::from_url`].
    ///
    /// # Errors
    /// `InvalidInput` that names the parameter and what was expected, or a name of other than letters, digits, `-`, `.` and `_`.
    pub fn from_url(url: &str, name: &str) -> Result<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if name.is_empty() || name.len() > 255 || !name.bytes().all(plain) {
            let text = "expected a name of letters, digits, - . and _";
            return Err(Error::invalid("backbone_name_invalid", text).with("found", name));
        }
        let config = RedisConfig::from_url(url)?;
        let place = format!("{}{{realtime:{name}}}", config.prefix);
        Ok(Self(Arc::new(Inner {
            link: Link::new(&config)?,
            reader: Mutex::new(None),
            log: format!("{place}:log"),
            kept: KEPT,
            away: format!("{place}:away:"),
        })))
    }

    /// The same that keeps about so many entries.
    #[must_use]
    pub fn keeping(mut self, entries: usize) -> Self {
        // Nobody else has it yet.
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.kept = entries;
        }
        self
    }
}

impl Inner {
    async fn append(&self, entries: &[Bytes]) -> Result<()> {
        let mut pipe = redis::pipe();
        for entry in entries {
            pipe.cmd("XADD")
                .arg(&self.log)
                .arg("MAXLEN")
                .arg("~")
                .arg(self.kept)
                .arg("*")
                .arg("e")
                .arg(&entry[..]);
        }
        let doing = "the nodes' log can't be written";
        self.link.calls(doing, &pipe).await.map(drop)
    }

    async fn latest(&self, max: usize) -> Result<Vec<(Offset, Bytes)>> {
        let mut cmd = redis::cmd("XREVRANGE");
        cmd.arg(&self.log).arg("+").arg("-").arg("COUNT").arg(max);
        let answer = self.link.call("the nodes' log can't be read", &cmd).await?;
        let found = value::entries(answer).ok_or_else(|| error::odd("read the nodes' log"))?;
        Ok(found.into_iter().rev().map(entry).collect())
    }

    async fn read(&self, after: Offset) -> Result<Vec<(Offset, Bytes)>> {
        let mut cmd = redis::cmd("XREAD");
        cmd.arg("COUNT").arg(READ_MAX);
        cmd.arg("BLOCK").arg(WAITS.as_millis().to_string());
        cmd.arg("STREAMS").arg(&self.log).arg(after.to_string());
        let mut reader = self.reader.lock().await;
        let mut connection = match reader.take() {
            Some(connection) => connection,
            None => self.link.connect().await?,
        };
        let answer = waits(&mut connection, &cmd).await?;
        // One that failed is not used again.
        *reader = Some(connection);
        drop(reader);
        let streams = value::streams(answer).ok_or_else(|| error::odd("read the nodes' log"))?;
        Ok(streams
            .into_iter()
            .flat_map(|(_, found)| found)
            .map(entry)
            .collect())
    }

    async fn remember(&self, key: &str, value: &[u8], within: Duration) -> Result<()> {
        let mut cmd = redis::cmd("SET");
        cmd.arg(format!("{}{key}", self.away)).arg(value);
        cmd.arg("PX").arg(within.as_millis().max(1).to_string());
        let doing = "who was cut off can't be remembered";
        self.link.call(doing, &cmd).await.map(drop)
    }

    async fn recall(&self, key: &str) -> Result<Option<Bytes>> {
        let mut cmd = redis::cmd("GETDEL");
        cmd.arg(format!("{}{key}", self.away));
        let doing = "who was cut off can't be recalled";
        match self.link.call(doing, &cmd).await? {
            Value::Nil => Ok(None),
            answer => value::bytes(answer)
                .map(Some)
                .ok_or_else(|| error::odd("recall who was cut off")),
        }
    }
}

async fn waits(connection: &mut Connection, cmd: &Cmd) -> Result<Value> {
    let doing = "the nodes' log can't be read";
    let answer = timeout(WAITS + ANSWERED_WITHIN, connection.req_packed_command(cmd)).await;
    let answer = answer.map_err(|_| error::late("the server did not answer in time"))?;
    error::value(doing, answer.map_err(|e| error::redis(doing, e))?)
}

/// One of somebody else's has no text that can be read, and is skipped by whoever reads it.
fn entry((id, fields): value::Entry) -> (Offset, Bytes) {
    let text = fields.into_iter().nth(1).and_then(value::bytes);
    (Offset(id.millis, id.sequence), text.unwrap_or_default())
}

impl Backbone for RedisBackbone {
    fn append<'a>(&'a self, entries: &'a [Bytes]) -> BoxFuture<'a, Result<()>> {
        self.0.append(entries).boxed()
    }

    fn latest(&self, max: usize) -> BoxFuture<'_, Result<Vec<(Offset, Bytes)>>> {
        self.0.latest(max).boxed()
    }

    fn read(&self, after: Offset) -> BoxFuture<'_, Result<Vec<(Offset, Bytes)>>> {
        self.0.read(after).boxed()
    }

    fn remember<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        within: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        async move { self.0.remember(key, &value, within).await }.boxed()
    }

    fn recall<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.0.recall(key).boxed()
    }
}

impl fmt::Debug for RedisBackbone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisBackbone").field(&self.0.log).finish()
    }
}
