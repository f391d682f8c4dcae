//! Where the server is and how it is used.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytestring::ByteString;
use redis::io::tcp::TcpSettings;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use trunkline_core::{Error, ErrorKind, Form, Result};

/// What carries the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Redis Streams: kept, with groups and replay.
    #[default]
    Streams,
    /// Redis Pub/Sub: whoever listens gets it, and nothing is kept.
    PubSub,
}

/// How Redis is used; [`RedisConfig::from_url`] has the defaults, fields are set one by one.
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisConfig {
    pub(crate) server: ConnectionInfo,
    /// Streams unless said otherwise.
    pub mode: Mode,
    /// What all keys and channels begin with. `trunkline:` by default.
    pub prefix: ByteString,
    /// In which form events are written. Every form is read.
    pub form: Form,
    /// How long to wait for the server's answer, connecting included. 10 s by default.
    pub timeout: Duration,
    /// Within which time the partitions of a member that died are another's. From 100 ms; 10 s by default. A
    /// member speaks up four times as often; the fewer, the less traffic.
    pub takeover: Duration,
    /// The largest event, measured by its data. A larger one is not published (`TooLarge`) and is
    /// delivered as unreadable. 8 MiB by default.
    pub event_bytes_max: usize,
    /// How many replicas must have an event before it counts as published (`WAIT`). 0 by default.
    pub replicas: u32,
}

impl RedisConfig {
    /// Reads a URL such as `redis://user:password@localhost:6379/0?prefix=shop:`.
    ///
    /// # Shape
    /// `redis://` for Streams or `redis+pubsub://` for Pub/Sub; user, password, port (6379) and database
    /// (0) may be left out. Parameters: `mode=streams|pubsub`, `prefix=`,
    /// `form=binary|cloudevents|tablium|storefront|retail`, `timeout_ms=`, `takeover_ms=`, `event_mib=`,
    /// `replicas=`.
    ///
    /// # Errors
    /// `InvalidInput` that names the parameter and what was expected; `Unsupported` for `rediss://`: this
    /// client is built without TLS.
    pub fn from_url(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let mode = match scheme {
            "redis" => Mode::Streams,
            "redis+pubsub" => Mode::PubSub,
            "rediss" | "rediss+pubsub" => {
                let message = "TLS to Redis is not built in; expected redis:// to a server on a private \
                               network, or to a TLS tunnel";
                return Err(Error::new(ErrorKind::Unsupported, "redis_tls", message));
            }
            _ => {
                let expected = "expected redis:// or redis+pubsub:// and a server";
                return Err(invalid(expected, scheme));
            }
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let server = format!("redis://{place}");
        let server = server.as_str().into_connection_info().map_err(|_| {
            // What the parser says could show the password.
            let expected = "expected redis://user:password@host:port/db, special characters as %XX";
            let host = place.rsplit('@').next().unwrap_or_default();
            invalid(expected, host)
        })?;
        let settings = TcpSettings::default().set_nodelay(true);
        let server = server.set_tcp_settings(settings);
        let mut config = Self {
            server,
            mode,
            prefix: ByteString::from_static("trunkline:"),
            form: Form::default(),
            timeout: Duration::from_secs(10),
            takeover: Duration::from_secs(10),
            event_bytes_max: 8 << 20,
            replicas: 0,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            config.set(pair)?;
        }
        Ok(config)
    }

    fn set(&mut self, pair: &str) -> Result<()> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "mode" => {
                self.mode = match value {
                    "streams" => Mode::Streams,
                    "pubsub" => Mode::PubSub,
                    _ => return Err(invalid("expected mode=streams or pubsub", pair)),
                }
            }
            "prefix" if value.contains(['{', '}', '%', '*']) => {
                return Err(invalid("expected a prefix without { } % and *", pair));
            }
            "prefix" => self.prefix = value.into(),
            "form" => self.form = value.parse()?,
            "timeout_ms" => self.timeout = Duration::from_millis(number(pair, value, 1)?),
            "takeover_ms" => self.takeover = Duration::from_millis(number(pair, value, 100)?),
            "event_mib" => self.event_bytes_max = mebibytes(pair, value)?,
            "replicas" => {
                self.replicas = u32::try_from(number(pair, value, 0)?)
                    .map_err(|_| invalid("the number is too large", pair))?;
            }
            _ => {
                let expected = "expected one of mode, prefix, form, timeout_ms, takeover_ms, \
                                event_mib, replicas";
                return Err(invalid(expected, pair));
            }
        }
        Ok(())
    }

    /// How long a lease holds unless it is renewed.
    pub(crate) fn lease(&self) -> Duration {
        self.takeover * 3 / 4
    }

    /// How often a member speaks up. Its lease runs out at most this long before another looks.
    pub(crate) fn heartbeat(&self) -> Duration {
        self.takeover / 4
    }

    /// The server without credentials, such as `localhost:6379/0`.
    pub(crate) fn place(&self) -> String {
        let database = self.server.redis_settings().db();
        match self.server.addr() {
            ConnectionAddr::Tcp(host, port) => format!("{host}:{port}/{database}"),
            other => format!("{other}/{database}"),
        }
    }
}

impl FromStr for RedisConfig {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        Self::from_url(url)
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("server", &self.place())
            .field("mode", &self.mode)
            .field("prefix", &self.prefix)
            .field("form", &self.form)
            .field("timeout", &self.timeout)
            .field("takeover", &self.takeover)
            .field("event_bytes_max", &self.event_bytes_max)
            .field("replicas", &self.replicas)
            .finish()
    }
}

fn mebibytes(pair: &str, value: &str) -> Result<usize> {
    match number(pair, value, 1)? {
        // Redis's own bound for one value, unless it was raised.
        count @ ..=512 => {
            usize::try_from(count << 20).map_err(|_| invalid("the number is too large", pair))
        }
        _ => Err(invalid(
            "expected at most 512, which is Redis's own bound",
            pair,
        )),
    }
}

fn number(pair: &str, value: &str, min: u64) -> Result<u64> {
    match value.parse::<u64>() {
        Ok(number) if number >= min => Ok(number),
        _ if min == 100 => Err(invalid("expected a whole number from 100", pair)),
        _ => Err(invalid("expected a positive whole number", pair)),
    }
}

fn invalid(expected: &'static str, found: &str) -> Error {
    Error::invalid("redis_config_invalid", expected).with("found", found)
}

#[cfg(test)]
mod tests {
    use trunkline_core::Dialect;

    use super::*;

    #[test]
    fn a_url_sets_what_it_names() {
        let config = RedisConfig::from_url(
            "redis://joe:s%40crt@example.net:7000/3?prefix=shop:&form=retail&timeout_ms=500\
             &takeover_ms=2000&event_mib=1&replicas=2",
        )
        .unwrap();
        assert_eq!(config.mode, Mode::Streams);
        assert_eq!(config.prefix, "shop:");
        assert_eq!(config.form, Form::Structured(Dialect::Retail));
        assert_eq!(config.timeout, Duration::from_millis(500));
        assert_eq!(config.lease(), Duration::from_millis(1500));
        assert_eq!(config.heartbeat(), Duration::from_millis(500));
        assert_eq!((config.event_bytes_max, config.replicas), (1 << 20, 2));
        assert_eq!(config.place(), "example.net:7000/3");
        assert_eq!(config.server.redis_settings().password(), Some("s@crt"));
        let light = RedisConfig::from_url("redis+pubsub://localhost").unwrap();
        assert_eq!(
            (light.mode, light.place().as_str()),
            (Mode::PubSub, "localhost:6379/0")
        );
    }

    #[test]
    fn a_wrong_url_names_the_mistake_and_never_the_password() {
        for (url, found) in [
            ("log:data", "found"),
            ("redis://:hunter2@localhost:x", "localhost:x"),
            ("redis://:hunter2@h/abc", "h/abc"),
            ("redis://:hunter2@h?mode=both", "mode=both"),
            ("redis://:hunter2@h?takeover_ms=5", "takeover_ms=5"),
            ("redis://:hunter2@h?event_mib=9999", "event_mib=9999"),
            ("redis://:hunter2@h?prefix={x}", "prefix={x}"),
            ("redis://:hunter2@h?form=xml", "xml"),
            ("redis://:hunter2@h?colour=red", "colour=red"),
            ("rediss://:hunter2@h", "TLS"),
        ] {
            let error = RedisConfig::from_url(url).unwrap_err();
            let text = format!("{error:?}");
            assert!(text.contains(found), "{url}: {text}");
            assert!(!text.contains("hunter2"), "{url}: {text}");
        }
        let config = RedisConfig::from_url("redis://:hunter2@h").unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
