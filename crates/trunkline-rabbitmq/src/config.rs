//! Where the server is and how it is used.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytestring::ByteString;
use trunkline_core::{Error, ErrorKind, Form, Result};

/// The longest prefix: the names of exchanges and queues have 255 bytes at most.
const PREFIX_BYTES_MAX: usize = 40;

/// How RabbitMQ is used; [`RabbitConfig::from_url`] has the defaults, fields are set one by one.
#[derive(Clone)]
#[non_exhaustive]
pub struct RabbitConfig {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) vhost: String,
    /// What the names of all exchanges and queues begin with. `trunkline.` by default.
    pub prefix: ByteString,
    /// In which form events are written. Every form is read.
    pub form: Form,
    /// How long to wait for the server's answer, connecting included; for the next one where several are awaited.
    /// 10 s by default.
    pub timeout: Duration,
    /// How often both sides show that they live, in whole seconds; 5 s by default. Within twice this time the
    /// partitions of a member that died without a word are another's, and a server that is silent is given up.
    pub heartbeat: Duration,
    /// How often, at most, a member that gets events looks whether others have joined. 1 s by default.
    pub rebalance: Duration,
    /// The largest event, measured by its data. A larger one is not published (`TooLarge`) and is delivered as
    /// unreadable. 8 MiB by default.
    pub event_bytes_max: usize,
}

impl RabbitConfig {
    /// Reads a URL such as `amqp://user:password@localhost:5672/vhost?prefix=shop.`.
    ///
    /// # Shape
    /// User and password (`guest`), port (5672) and virtual host (`/`) may be left out; special characters in them
    /// stand as `%XX`. Parameters: `prefix=`, `form=binary|cloudevents|tablium|storefront|retail`, `timeout_ms=`,
    /// `heartbeat_s=`, `rebalance_ms=`, `event_mib=`.
    ///
    /// # Errors
    /// `InvalidInput` that names the parameter and what was expected; `Unsupported` for `amqps://`.
    pub fn from_url(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        if scheme == "amqps" {
            let message = "TLS to RabbitMQ is not built in; expected amqp:// to a server on a private network, or to \
                           a TLS tunnel";
            return Err(Error::new(ErrorKind::Unsupported, "rabbitmq_tls", message));
        }
        if scheme != "amqp" {
            return Err(invalid("expected amqp:// and a server", scheme));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, vhost) = place.split_once('/').unwrap_or((place, ""));
        let (login, server) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse::<u16>();
                let expected = "expected amqp://user:password@host:port/vhost";
                (host, port.map_err(|_| invalid(expected, server))?)
            }
            _ => (server, 5672),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let decoded = |what: &str, default: &str| {
            let text = if what.is_empty() { default } else { what };
            let expected = "expected special characters as %XX of UTF-8";
            decode(text).ok_or_else(|| invalid(expected, server))
        };
        let mut config = Self {
            host: if host.is_empty() { "localhost" } else { host }.to_owned(),
            port,
            user: decoded(user, "guest")?,
            password: decoded(password, if user.is_empty() { "guest" } else { "" })?,
            vhost: decoded(vhost, "/")?,
            prefix: ByteString::from_static("trunkline."),
            form: Form::default(),
            timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(5),
            rebalance: Duration::from_secs(1),
            event_bytes_max: 8 << 20,
        };
        if config.vhost.len() > 255 {
            return Err(invalid(
                "expected a virtual host of at most 255 bytes",
                server,
            ));
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            config.set(pair)?;
        }
        Ok(config)
    }

    fn set(&mut self, pair: &str) -> Result<()> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
        match name {
            "prefix" if value.len() > PREFIX_BYTES_MAX || !value.bytes().all(allowed) => {
                let expected =
                    "expected a prefix of at most 40 ASCII letters, digits, `.`, `_`, `-` and `:`";
                return Err(invalid(expected, pair));
            }
            "prefix" => self.prefix = value.into(),
            "form" => self.form = value.parse()?,
            "timeout_ms" => self.timeout = Duration::from_millis(number(pair, value, u64::MAX)?),
            "heartbeat_s" => self.heartbeat = Duration::from_secs(number(pair, value, 3600)?),
            "rebalance_ms" => {
                self.rebalance = Duration::from_millis(number(pair, value, u64::MAX)?);
            }
            "event_mib" => {
                // RabbitMQ's own bound for a message.
                let count = usize::try_from(number(pair, value, 512)?);
                let count = count.map_err(|_| invalid("the number is too large", pair))?;
                self.event_bytes_max = count << 20;
            }
            _ => {
                let expected = "expected one of prefix, form, timeout_ms, heartbeat_s, rebalance_ms, event_mib";
                return Err(invalid(expected, pair));
            }
        }
        Ok(())
    }

    /// The server without credentials, such as `localhost:5672/shop`.
    pub(crate) fn place(&self) -> String {
        format!(
            "{}:{}/{}",
            self.host,
            self.port,
            self.vhost.trim_start_matches('/')
        )
    }
}

impl FromStr for RabbitConfig {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        Self::from_url(url)
    }
}

impl fmt::Debug for RabbitConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitConfig")
            .field("server", &self.place())
            .field("user", &self.user)
            .field("prefix", &self.prefix)
            .field("form", &self.form)
            .field("timeout", &self.timeout)
            .field("heartbeat", &self.heartbeat)
            .field("rebalance", &self.rebalance)
            .field("event_bytes_max", &self.event_bytes_max)
            .finish()
    }
}

/// Text with `%XX` for special characters.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let code = after.get(..2)?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        rest = after.get(2..)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

fn number(pair: &str, value: &str, max: u64) -> Result<u64> {
    match value.parse::<u64>() {
        Ok(number) if (1..=max).contains(&number) => Ok(number),
        Ok(number) if number > max => Err(invalid("the number is too large", pair)),
        _ => Err(invalid("expected a positive whole number", pair)),
    }
}

fn invalid(expected: &'static str, found: &str) -> Error {
    Error::invalid("rabbitmq_config_invalid", expected).with("found", found)
}

#[cfg(test)]
mod tests {
    use trunkline_core::Dialect;

    use super::*;

    #[test]
    fn a_url_sets_what_it_names() {
        let config = RabbitConfig::from_url(
            "amqp://joe:s%40crt@example.net:7000/my%2Fshop?prefix=shop.&form=retail&timeout_ms=500&heartbeat_s=2\
             &rebalance_ms=50&event_mib=1",
        )
        .unwrap();
        assert_eq!(config.place(), "example.net:7000/my/shop");
        assert_eq!((&*config.user, &*config.password), ("joe", "s@crt"));
        assert_eq!(config.prefix, "shop.");
        assert_eq!(config.form, Form::Structured(Dialect::Retail));
        assert_eq!(config.timeout, Duration::from_millis(500));
        assert_eq!(config.heartbeat, Duration::from_secs(2));
        assert_eq!(config.rebalance, Duration::from_millis(50));
        assert_eq!(config.event_bytes_max, 1 << 20);
        let least = RabbitConfig::from_url("amqp://localhost").unwrap();
        assert_eq!((&*least.user, &*least.password), ("guest", "guest"));
        assert_eq!((least.port, &*least.vhost), (5672, "/"));
    }

    #[test]
    fn a_wrong_url_names_the_mistake_and_never_the_password() {
        for (url, found) in [
            ("log:data", "found"),
            ("amqp://u:hunter2@localhost:x", "localhost:x"),
            ("amqp://u:hunter2%zz@h", "%XX"),
            ("amqp://u:hunter2@h?timeout_ms=0", "timeout_ms=0"),
            ("amqp://u:hunter2@h?event_mib=9999", "event_mib=9999"),
            ("amqp://u:hunter2@h?prefix=a/b", "prefix=a/b"),
            ("amqp://u:hunter2@h?form=xml", "xml"),
            ("amqp://u:hunter2@h?colour=red", "colour=red"),
            ("amqps://u:hunter2@h", "TLS"),
        ] {
            let error = RabbitConfig::from_url(url).unwrap_err();
            let text = format!("{error:?}");
            assert!(text.contains(found), "{url}: {text}");
            assert!(!text.contains("hunter2"), "{url}: {text}");
        }
        let config = RabbitConfig::from_url("amqp://u:hunter2@h").unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
