//! Counters that several gateways share, in Redis.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, RedisError, Script,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout};

use super::windows::{Key, Left, Taken};
use crate::plugin::{Mistake, mistake};

/// After a failure the server is left alone for so long. Then one request tries it, and the others don't wait for that.
const PAUSE: Duration = Duration::from_secs(1);

/// Kong's `redis` settings. It is built without TLS.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) timeout: Option<u32>,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: Option<u16>,
    pub(super) ssl: bool,
    #[serde(rename = "ssl_verify")]
    pub(super) _ssl_verify: bool,
    #[serde(rename = "server_name")]
    pub(super) _server_name: Option<String>,
}

/// Counters in Redis. One round trip counts a request in all windows, and requests share one connection without waiting
/// for each other.
///
/// # Guarantees
/// All gateways with the same scope and windows let exactly as many requests through as the bounds say. Windows begin with
/// the server's clock. A client has one key, which goes with the last of its windows.
pub(super) struct Shared {
    client: Client,
    place: String,
    timeout: Duration,
    scope: String,
    /// The length of each window in seconds and its bound.
    bounds: Vec<(i64, u32)>,
    script: Script,
    link: tokio::sync::Mutex<Link>,
    /// When somebody may try again, while the server is away.
    retry_at: Mutex<Option<Instant>>,
    is_away: AtomicBool,
}

/// The connection, and how many there were before.
#[derive(Default)]
struct Link {
    number: u64,
    connection: Option<MultiplexedConnection>,
}

impl Shared {
    pub(super) fn new(
        settings: Settings,
        scope: String,
        bounds: Vec<(i64, u32)>,
    ) -> Result<Self, Mistake> {
        let host = settings.host.filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| mistake("redis.host", "expected Redis's host"))?;
        if settings.ssl {
            let expected = "expected false: TLS to Redis is not built in; name a server on a private network, or a tunnel";
            return Err(mistake("redis.ssl", expected));
        }
        let millis = settings.timeout.unwrap_or(2_000);
        if millis == 0 {
            return Err(mistake("redis.timeout", "expected milliseconds above 0"));
        }
        let port = settings.port.unwrap_or(6_379);
        let database = settings.database.unwrap_or(0);
        let wrong = |_: RedisError| mistake("redis.host", "expected the name of a host");
        let info: ConnectionInfo = (&*host, port).into_connection_info().map_err(wrong)?;
        let mut login = info.redis_settings().clone().set_db(database.into());
        if let Some(username) = settings.username.filter(|name| !name.is_empty()) {
            login = login.set_username(username);
        }
        if let Some(password) = settings.password.filter(|password| !password.is_empty()) {
            login = login.set_password(password);
        }
        let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
        let info = info.set_redis_settings(login).set_tcp_settings(tcp);
        Ok(Self {
            client: Client::open(info).map_err(wrong)?,
            place: format!("{host}:{port}/{database}"),
            timeout: Duration::from_millis(millis.into()),
            scope,
            bounds,
            script: Script::new(include_str!("take.lua")),
            link: tokio::sync::Mutex::default(),
            retry_at: Mutex::new(None),
            is_away: AtomicBool::new(false),
        })
    }

    /// Whether the server is to be asked. While it is away, one of all requests that come after the pause is told yes.
    pub(super) fn is_worth_a_try(&self) -> bool {
        if !self.is_away.load(Ordering::Acquire) {
            return true;
        }
        let now = Instant::now();
        let mut retry_at = self.retry_at.lock();
        let is_due = retry_at.is_none_or(|at| at <= now);
        if is_due {
            *retry_at = Some(now + self.timeout + PAUSE);
        }
        is_due
    }

    /// Counts one request; none where the server can't be asked, which is said once in the log.
    pub(super) async fn take(&self, key: &Key) -> Option<Taken> {
        let mut used = None;
        let why = match timeout(self.timeout, self.ask(key, &mut used)).await {
            Ok(Ok(answer)) => {
                self.is_here(used).await;
                return Some(self.taken(&answer));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {:?}", self.timeout),
        };
        let mut link = self.link.lock().await;
        if used.is_some_and(|used| used != link.number) {
            // Others have found that out already, and perhaps made a new one.
            return None;
        }
        *link = Link {
            number: link.number + 1,
            connection: None,
        };
        drop(link);
        *self.retry_at.lock() = Some(Instant::now() + PAUSE);
        if !self.is_away.swap(true, Ordering::AcqRel) {
            tracing::error!(server = self.place, why, "limits can't be shared");
        }
        None
    }

    /// The server has answered over this connection. Where that one has been given up since, the answer is a late one and tells
    /// nothing of how the server is now.
    async fn is_here(&self, used: Option<u64>) {
        if !self.is_away.load(Ordering::Acquire) {
            return;
        }
        let link = self.link.lock().await;
        if used == Some(link.number) && self.is_away.swap(false, Ordering::AcqRel) {
            tracing::info!(server = self.place, "limits are shared again");
        }
    }

    async fn ask(&self, key: &Key, used: &mut Option<u64>) -> Result<Vec<i64>, RedisError> {
        let mut connection = {
            let mut link = self.link.lock().await;
            *used = Some(link.number);
            match &link.connection {
                Some(connection) => connection.clone(),
                None => link.connection.insert(self.connect().await?).clone(),
            }
        };
        let mut call = self.script.key(self.name_of(key));
        for (seconds, bound) in &self.bounds {
            call.arg(*seconds).arg(*bound);
        }
        call.invoke_async(&mut connection).await
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(None);
        let client = &self.client;
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    /// The key of whoever asks: of one length, whatever a client sends.
    fn name_of(&self, key: &Key) -> String {
        let mut digest = Sha256::new();
        let mut add = |part: &[u8]| {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        };
        add(self.scope.as_bytes());
        let (kind, value) = key.parts();
        add(kind.as_bytes());
        add(&value);
        let digest = digest.finalize();
        let half = digest.iter().take(16);
        half.fold(String::from("trunkline:limit:"), |name, byte| {
            name + &format!("{byte:02x}")
        })
    }

    fn taken(&self, answer: &[i64]) -> Taken {
        let (refused, now) = match answer {
            [refused, now, ..] => (*refused, *now),
            _ => (-1, 0),
        };
        let counts = answer.get(2..).unwrap_or_default();
        let left = counts.iter().zip(&self.bounds);
        let left = left.map(|(count, (seconds, bound))| Left {
            requests: bound.saturating_sub(u32::try_from(*count).unwrap_or(u32::MAX)),
            reset_seconds: seconds - now.rem_euclid(*seconds),
        });
        Taken {
            left: left.collect(),
            refused_seconds: (refused >= 0).then_some(refused),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("server", &self.place)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}
