//! How NATS is reached.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytestring::ByteString;
use trunkline_core::{Error, Form, Result};

use crate::percent;

/// Who the client says it is.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Credentials {
    /// Nobody.
    #[default]
    None,
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password; never printed.
        password: String,
    },
    /// A token; never printed.
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Password { user, .. } => write!(f, "Password({user}, ***)"),
            Self::Token(_) => f.write_str("Token(***)"),
        }
    }
}

/// How NATS is reached; [`NatsConfig::from_url`] reads a URL, fields are set one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NatsConfig {
    /// The servers, `host:port`, tried in turn. They are one cluster.
    pub servers: Vec<String>,
    /// Whether the connection is encrypted. A server that demands it gets it anyway.
    pub tls: bool,
    /// Who the client says it is.
    pub credentials: Credentials,
    /// What the names of all subjects and streams begin with: nothing unless set, else letters, digits,
    /// `_`, `-` and `.`, at most 50 bytes. Whoever shares a server takes a prefix of their own.
    pub prefix: ByteString,
    /// In which form events are written. CloudEvents' binary mode by default.
    pub form: Form,
    /// How long to wait for a connection and for each answer. 10 s by default.
    pub timeout: Duration,
    /// How long a member of a group that is not heard of keeps its partitions. 10 s by default.
    pub lease: Duration,
    /// After which time the server thinks a delivery lost that nobody has settled, and sends it again; the
    /// transport tells it of those still being handled three times as often. 30 s by default.
    pub ack_wait: Duration,
    /// How many deliveries of a partition may be unsettled between its oldest and its newest; beyond it the
    /// partition waits for its oldest. 10,000 by default.
    pub ack_pending_max: usize,
    /// For how long the server remembers the events it was given, and takes none of them twice. 2 minutes
    /// by default; zero remembers nothing.
    pub dedup_window: Duration,
    /// How many servers of a cluster keep each stream. 1 by default.
    pub replicas: usize,
}

/// The prefix of names, at most.
const PREFIX_BYTES_MAX: usize = 50;
const PORT: u16 = 4222;
const PARAMETERS: &str = "expected one of ack_pending_max, ack_wait_ms, dedup_window_ms, form, \
                          lease_ms, prefix, replicas, timeout_ms";

impl NatsConfig {
    /// A server, such as `localhost:4222`, with the defaults.
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            servers: vec![server.into()],
            tls: false,
            credentials: Credentials::None,
            prefix: ByteString::new(),
            form: Form::default(),
            timeout: Duration::from_secs(10),
            lease: Duration::from_secs(10),
            ack_wait: Duration::from_secs(30),
            ack_pending_max: 10_000,
            dedup_window: Duration::from_secs(120),
            replicas: 1,
        }
    }

    /// Reads a URL such as `nats://user:secret@localhost:4222?prefix=shop.&form=binary`.
    ///
    /// # Shape
    /// `nats://` or, encrypted, `tls://`; then `user:password@` or `token@`, percent-encoded; then servers
    /// of one cluster, `host:port`, separated by commas (port 4222 unless given); then parameters:
    /// `prefix=`, `form=` (see [`Form`]), `timeout_ms=`, `lease_ms=`, `ack_wait_ms=`, `ack_pending_max=`,
    /// `dedup_window_ms=` (0 for none), `replicas=`.
    ///
    /// # Errors
    /// `InvalidInput`, code `nats_config_invalid`, that names the parameter and what was expected.
    pub fn from_url(url: &str) -> Result<Self> {
        let (tls, rest) = match (url.strip_prefix("nats://"), url.strip_prefix("tls://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => {
                let scheme = url.split("://").next().unwrap_or_default();
                return Err(invalid(
                    "expected nats:// or tls:// and a server, such as nats://localhost:4222",
                    if scheme == url { "no scheme" } else { scheme },
                ));
            }
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !path.is_empty() {
            return Err(invalid("expected nothing after the servers but ?", path));
        }
        let (who, servers) = authority.rsplit_once('@').unwrap_or(("", authority));
        let mut config = Self::new("");
        config.tls = tls;
        config.credentials = credentials(who)?;
        config.servers = servers.split(',').map(server).collect::<Result<_>>()?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            config.set(pair)?;
        }
        config.check()?;
        Ok(config)
    }

    fn set(&mut self, pair: &str) -> Result<()> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "prefix" => self.prefix = value.into(),
            "form" => {
                self.form = value
                    .parse()
                    .map_err(|error: Error| error.with("found", pair))?
            }
            "timeout_ms" => self.timeout = millis(pair, value)?,
            "lease_ms" => self.lease = millis(pair, value)?,
            "ack_wait_ms" => self.ack_wait = millis(pair, value)?,
            "dedup_window_ms" => self.dedup_window = millis(pair, value)?,
            "ack_pending_max" => self.ack_pending_max = number(pair, value)?,
            "replicas" => self.replicas = number(pair, value)?,
            _ => return Err(invalid(PARAMETERS, name)),
        }
        Ok(())
    }

    /// The bounds of the settings.
    pub(crate) fn check(&self) -> Result<()> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if self.prefix.len() > PREFIX_BYTES_MAX || !self.prefix.bytes().all(allowed) {
            let expected = "expected a prefix of at most 50 letters, digits, `.`, `_` and `-`";
            return Err(invalid(expected, &self.prefix));
        }
        for (name, time) in [
            ("timeout_ms", self.timeout),
            ("lease_ms", self.lease),
            ("ack_wait_ms", self.ack_wait),
        ] {
            if !(Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&time) {
                let found = format!("{name}={}", time.as_millis());
                return Err(invalid("expected a time from 100 ms to an hour", &found));
            }
        }
        if self.servers.is_empty() || self.ack_pending_max == 0 || self.replicas == 0 {
            let expected = "expected a server, and ack_pending_max and replicas of at least 1";
            return Err(invalid(expected, "nothing"));
        }
        Ok(())
    }
}

impl FromStr for NatsConfig {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        Self::from_url(url)
    }
}

fn credentials(text: &str) -> Result<Credentials> {
    let plain = |text: &str| match percent::decode(text) {
        Some(plain) if !plain.is_empty() => Ok(plain.into_owned()),
        _ => Err(invalid(
            "expected credentials of user:password or a token",
            "***",
        )),
    };
    Ok(match text.split_once(':') {
        None if text.is_empty() => Credentials::None,
        None => Credentials::Token(plain(text)?),
        Some((user, password)) => Credentials::Password {
            user: plain(user)?,
            password: plain(password)?,
        },
    })
}

fn server(text: &str) -> Result<String> {
    let wrong = || {
        invalid(
            "expected a server as host:port, such as localhost:4222",
            text,
        )
    };
    let behind = text.rsplit_once(']').map_or(text, |(_, behind)| behind);
    let port = match behind.split_once(':') {
        Some((_, port)) => Some(port.parse::<u16>().map_err(|_| wrong())?),
        None => None,
    };
    let host = match text.rsplit_once(':') {
        Some((host, _)) if port.is_some() => host,
        _ => text,
    };
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err(wrong());
    }
    Ok(format!("{host}:{}", port.unwrap_or(PORT)))
}

fn millis(pair: &str, value: &str) -> Result<Duration> {
    let count = value
        .parse()
        .map_err(|_| invalid("expected whole milliseconds", pair))?;
    Ok(Duration::from_millis(count))
}

fn number(pair: &str, value: &str) -> Result<usize> {
    value
        .parse()
        .map_err(|_| invalid("expected a positive whole number", pair))
}

fn invalid(expected: &'static str, found: &str) -> Error {
    Error::invalid("nats_config_invalid", expected).with("found", found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_sets_what_it_names() {
        let url = "tls://a%40b:s%3Acret@one:1,two?prefix=shop.&form=retail&timeout_ms=200&lease_ms=300\
                   &ack_wait_ms=400&ack_pending_max=5&dedup_window_ms=0&replicas=3";
        let config = NatsConfig::from_url(url).unwrap();
        assert!(config.tls);
        assert_eq!(config.servers, ["one:1", "two:4222"]);
        let Credentials::Password { user, password } = &config.credentials else {
            panic!("{config:?}");
        };
        assert_eq!((user.as_str(), password.as_str()), ("a@b", "s:cret"));
        assert_eq!(config.prefix, "shop.");
        assert_eq!(config.form.to_string(), "retail");
        assert_eq!(config.lease, Duration::from_millis(300));
        assert_eq!((config.ack_pending_max, config.replicas), (5, 3));
        assert!(config.dedup_window.is_zero());
        let token = NatsConfig::from_url("nats://t0ken@[::1]").unwrap();
        assert_eq!(token.credentials, Credentials::Token("t0ken".to_owned()));
        assert_eq!(token.servers, ["[::1]:4222"]);
        assert_eq!(
            NatsConfig::from_url("nats://h").unwrap(),
            NatsConfig::new("h:4222")
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        for url in ["nats://u:s3cret@h", "nats://s3cret@h"] {
            let config = NatsConfig::from_url(url).unwrap();
            assert!(!format!("{config:?}").contains("s3cret"));
        }
        for url in [
            "http://u:s3cret@h",
            "nats://u:s3cret@h:x",
            "nats://u:s3cret@h?no=1",
        ] {
            let error = NatsConfig::from_url(url).unwrap_err();
            assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        }
    }

    #[test]
    fn a_wrong_url_names_the_mistake() {
        for (url, found) in [
            ("redis://x", "redis"),
            ("localhost", "no scheme"),
            ("nats://", "host:port"),
            ("nats://h:port", "h:port"),
            ("nats://h/db", "db"),
            ("nats://h?prefix=a*", "a*"),
            ("nats://h?lease_ms=5", "lease_ms=5"),
            ("nats://h?timeout_ms=soon", "timeout_ms=soon"),
            ("nats://h?form=xml", "form=xml"),
            ("nats://h?replicas=0", "replicas"),
            ("nats://h?colour=red", "colour"),
        ] {
            let error = NatsConfig::from_url(url).unwrap_err();
            assert!(error.to_string().contains(found), "{url}: {error}");
        }
    }
}
