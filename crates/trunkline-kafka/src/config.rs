//! Where the cluster is and how it is used.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytestring::ByteString;
use trunkline_core::{Error, ErrorKind, Form, Result};

/// How a connection is made safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// Neither credentials nor encryption.
    #[default]
    Plaintext,
    /// User and password by SASL's `PLAIN`, unencrypted.
    SaslPlaintext,
}

/// How record batches are compressed by the publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Gzip.
    Gzip,
    /// LZ4.
    Lz4,
    /// Snappy.
    Snappy,
}

/// How Kafka is used; [`KafkaConfig::new`] has the defaults, fields are set one by one.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KafkaConfig {
    /// Brokers to begin with, `host:port` each, separated by commas.
    pub brokers: String,
    /// User and password, for [`Security::SaslPlaintext`]. Never printed.
    pub credentials: Option<(String, String)>,
    /// How connections are made safe.
    pub security: Security,
    /// What stands before the name of every topic and group. Empty by default.
    pub prefix: ByteString,
    /// In which form events are published. CloudEvents in binary mode by default.
    pub form: Form,
    /// The longest wait for brokers in any call. 10 s by default.
    pub limit: Duration,
    /// After this time without a sign of life a member's partitions go to the others. 10 s by default; the
    /// brokers' `group.min.session.timeout.ms` and `group.max.session.timeout.ms` bound it.
    pub session: Duration,
    /// How often a member gives a sign of life, and learns that others have come or gone. A third of
    /// `session` at most; 1 s by default.
    pub heartbeat: Duration,
    /// How long a partition that moves to another member waits for what is being handled. 10 s by default.
    pub handover: Duration,
    /// How long a group's new positions may wait to be committed together. 100 ms by default.
    pub commit_delay: Duration,
    /// How long a publisher may wait for more to send together. 0.2 ms by default.
    pub linger: Duration,
    /// How many brokers keep each topic that is declared; none means what the cluster is set to.
    pub replication: Option<u16>,
    /// How record batches are compressed. Not at all by default.
    pub compression: Compression,
    /// The largest event with its headers; a larger one is refused as `TooLarge`. 1,048,588 bytes by
    /// default, which is what brokers take unless they are set to take more.
    pub event_bytes_max: usize,
    /// How much a subscription reads ahead of each partition that it holds, by the events' data alone: the
    /// client library keeps several hundred bytes more for each. 2 MiB by default, and never more than 10,000 events; what
    /// was read longer ago than the processor's caches remember costs more to handle.
    pub prefetch_bytes: usize,
}

const EXPECTED: &str = "expected kafka://user:password@host:9092,host:9092?name=value";
const NAMES: &str = "expected one of prefix, form, security, limit_ms, session_ms, heartbeat_ms, handover_ms, \
                     commit_ms, linger_us, replication, compression, event_bytes_max, prefetch_kib";

impl KafkaConfig {
    /// Brokers `host:port`, separated by commas, with the defaults.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            credentials: None,
            security: Security::default(),
            prefix: ByteString::new(),
            form: Form::default(),
            limit: Duration::from_secs(10),
            session: Duration::from_secs(10),
            heartbeat: Duration::from_secs(1),
            handover: Duration::from_secs(10),
            commit_delay: Duration::from_millis(100),
            linger: Duration::from_micros(200),
            replication: None,
            compression: Compression::default(),
            event_bytes_max: 1_048_588,
            prefetch_bytes: 2 << 20,
        }
    }

    /// Reads a URL such as `kafka://shop:secret@kafka-1:9092,kafka-2:9092?prefix=shop.&replication=3`.
    ///
    /// # Shape
    /// `kafka://`, `user:password@` with `%` escapes if there are credentials, brokers separated by commas
    /// (9092 is the port unless it is given), then parameters: `prefix`, `form`
    /// (`binary|cloudevents|tablium|storefront|retail`), `security` (`plaintext|sasl_plaintext`, the latter
    /// if there are credentials), `limit_ms`, `session_ms`, `heartbeat_ms`, `handover_ms`, `commit_ms`,
    /// `linger_us`, `replication`, `compression` (`none|gzip|lz4|snappy`), `event_bytes_max`,
    /// `prefetch_kib`. TLS is not built in.
    ///
    /// # Errors
    /// `InvalidInput` that names the parameter and what was expected, `Unsupported` for TLS. No error has
    /// the password in it.
    pub fn from_url(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("kafka://");
        // What stands in the URL may be a secret: it is not repeated.
        let rest = rest.ok_or_else(|| Error::invalid("kafka_config_invalid", EXPECTED))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        if query.contains('@') {
            // A password with an unescaped `?`.
            return Err(Error::invalid("kafka_config_invalid", EXPECTED));
        }
        let (login, hosts) = match place.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, place),
        };
        let mut config = Self::new(brokers(hosts.strip_suffix('/').unwrap_or(hosts))?);
        if let Some(login) = login {
            let expected = || Error::invalid("kafka_config_invalid", EXPECTED);
            let (user, password) = login.split_once(':').ok_or_else(expected)?;
            let decode = |text| unescape(text).ok_or_else(expected);
            config.credentials = Some((decode(user)?, decode(password)?));
            config.security = Security::SaslPlaintext;
        }
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query)
            .map_err(|error| Error::invalid("kafka_config_invalid", EXPECTED).with_source(error))?;
        for (name, value) in pairs {
            config.set(&name, &value)?;
        }
        config.check()?;
        Ok(config)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let millis = |min| number(name, value, min).map(Duration::from_millis);
        match name {
            "prefix" => self.prefix = value.into(),
            "form" => self.form = value.parse()?,
            "security" => self.security = security(value)?,
            "limit_ms" => self.limit = millis(1)?,
            "session_ms" => self.session = millis(1)?,
            "heartbeat_ms" => self.heartbeat = millis(1)?,
            "handover_ms" => self.handover = millis(0)?,
            "commit_ms" => self.commit_delay = millis(0)?,
            "linger_us" => self.linger = Duration::from_micros(number(name, value, 0)?),
            "replication" => {
                let found = || invalid("expected a number of brokers from 1 to 32767", name, value);
                let brokers = u16::try_from(number(name, value, 1)?).map_err(|_| found())?;
                i16::try_from(brokers).map_err(|_| found())?;
                self.replication = Some(brokers);
            }
            "compression" => self.compression = compression(value)?,
            "event_bytes_max" => self.event_bytes_max = bytes(name, value, 1)?,
            "prefetch_kib" => self.prefetch_bytes = bytes(name, value, 1 << 10)?,
            _ => return Err(invalid(NAMES, name, value)),
        }
        Ok(())
    }

    /// The bounds that the client library sets.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = if self.brokers.is_empty() {
            EXPECTED
        } else if self.heartbeat * 3 > self.session {
            "expected heartbeat_ms of at most a third of session_ms"
        } else if !(1_000..=1_000_000_000).contains(&self.event_bytes_max) {
            "expected event_bytes_max from 1,000 to 1,000,000,000"
        } else if !(1 << 10..1 << 30).contains(&self.prefetch_bytes) {
            "expected prefetch_kib from 1 to 1,048,575"
        } else if self.limit > HOUR || self.session > HOUR || self.handover > HOUR {
            "expected waits of at most an hour"
        } else if self.linger > Duration::from_secs(1) || self.commit_delay > HOUR {
            "expected linger_us of at most a second and commit_ms of at most an hour"
        } else if self.security == Security::SaslPlaintext && self.credentials.is_none() {
            "expected user:password@ before the brokers"
        } else if self.prefix.len() > PREFIX_BYTES_MAX || !self.prefix.bytes().all(is_in_names) {
            "expected a prefix of at most 48 ASCII letters, digits, `.`, `_` and `-`"
        } else if self.security == Security::Plaintext && self.credentials.is_some() {
            "expected no user and password where security is plaintext"
        } else {
            return Ok(());
        };
        Err(Error::invalid("kafka_config_invalid", wrong))
    }

    /// A topic's or group's name in the cluster.
    pub(crate) fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// Names have 249 bytes in Kafka and 200 in Trunkline.
const PREFIX_BYTES_MAX: usize = 48;

fn is_in_names(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

const HOUR: Duration = Duration::from_secs(3_600);

impl FromStr for KafkaConfig {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        Self::from_url(url)
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.credentials.as_ref().map(|(user, _)| user);
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("user", &user)
            .field("prefix", &self.prefix)
            .field("form", &self.form)
            .field("limit", &self.limit)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// The brokers with their ports.
fn brokers(hosts: &str) -> Result<String> {
    let one = |host: &str| {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
            _ => (host, Some(9092_u16)),
        };
        match port {
            Some(port) if port > 0 && !name.is_empty() && !name.contains('/') => {
                Ok(format!("{name}:{port}"))
            }
            // It may be the half of a password.
            _ => Err(Error::invalid(
                "kafka_config_invalid",
                "expected brokers host:port",
            )),
        }
    };
    let all: Result<Vec<String>> = hosts.split(',').map(one).collect();
    Ok(all?.join(","))
}

/// A text without its `%` escapes; none if they are wrong.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let code = digit(rest.next())? * 16 + digit(rest.next())?;
            bytes.push(u8::try_from(code).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn security(value: &str) -> Result<Security> {
    match value {
        "plaintext" => Ok(Security::Plaintext),
        "sasl_plaintext" => Ok(Security::SaslPlaintext),
        "ssl" | "sasl_ssl" => {
            let message = "TLS is not built in: expected security=plaintext or sasl_plaintext";
            Err(Error::new(
                ErrorKind::Unsupported,
                "kafka_tls_unsupported",
                message,
            ))
        }
        _ => {
            let expected = "expected security=plaintext or sasl_plaintext";
            Err(invalid(expected, "security", value))
        }
    }
}

fn compression(value: &str) -> Result<Compression> {
    match value {
        "none" => Ok(Compression::None),
        "gzip" => Ok(Compression::Gzip),
        "lz4" => Ok(Compression::Lz4),
        "snappy" => Ok(Compression::Snappy),
        _ => {
            let expected = "expected compression=none, gzip, lz4 or snappy";
            Err(invalid(expected, "compression", value))
        }
    }
}

fn bytes(name: &str, value: &str, unit: u64) -> Result<usize> {
    let count = number(name, value, 1)?.checked_mul(unit);
    let count = count.and_then(|count| usize::try_from(count).ok());
    count.ok_or_else(|| invalid("the number is too large", name, value))
}

fn number(name: &str, value: &str, min: u64) -> Result<u64> {
    match value.parse::<u64>() {
        Ok(number) if number >= min && number <= u64::from(u32::MAX) => Ok(number),
        _ if min == 0 => Err(invalid("expected a whole number", name, value)),
        _ => Err(invalid("expected a positive whole number", name, value)),
    }
}

fn invalid(expected: &'static str, name: &str, value: &str) -> Error {
    Error::invalid("kafka_config_invalid", expected).with("found", format!("{name}={value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_sets_what_it_names() {
        let url = "kafka://shop:p%40ss%2Fw:rd@a,b:19092,[::1]:9093/?prefix=shop.&session_ms=3000&\
                   heartbeat_ms=100&form=storefront&replication=3&compression=lz4&linger_us=500";
        let config = KafkaConfig::from_url(url).unwrap();
        assert_eq!(config.brokers, "a:9092,b:19092,[::1]:9093");
        assert_eq!(
            config.credentials,
            Some(("shop".to_owned(), "p@ss/w:rd".to_owned()))
        );
        assert_eq!(config.security, Security::SaslPlaintext);
        assert_eq!(config.full("t"), "shop.t");
        assert_eq!(config.session, Duration::from_secs(3));
        assert_eq!(config.linger, Duration::from_micros(500));
        assert_eq!(config.form.to_string(), "storefront");
        assert_eq!(config.replication, Some(3));
        assert_eq!(config.compression, Compression::Lz4);
        let plain = KafkaConfig::from_url("kafka://localhost").unwrap();
        assert_eq!(plain, KafkaConfig::new("localhost:9092"));
    }

    #[test]
    fn a_wrong_url_names_the_mistake_and_no_password() {
        for (url, told) in [
            ("redis://u:secret@x", "expected kafka://"),
            ("kafka://", "host:port"),
            ("kafka://u:secret@", "host:port"),
            ("kafka://h:0", "host:port"),
            ("kafka://u:secret/x", "host:port"),
            ("kafka://u:secret?secret@h:1", "expected kafka://"),
            ("kafka://h:secret:x@h:port", "host:port"),
            ("kafka://secret@h", "expected kafka://"),
            ("kafka://u:%zzsecret@h", "expected kafka://"),
            ("kafka://h/topic", "host:port"),
            ("kafka://h?prefix=a/b", "expected a prefix"),
            ("kafka://h?colour=red", "colour=red"),
            ("kafka://h?session_ms=soon", "session_ms=soon"),
            ("kafka://h?session_ms=100&heartbeat_ms=90", "a third"),
            ("kafka://h?form=xml", "xml"),
            ("kafka://h?security=ssl", "TLS is not built in"),
            ("kafka://h?security=sasl_plaintext", "user:password@"),
            (
                "kafka://u:secret@h?security=plaintext",
                "no user and password",
            ),
            ("kafka://h?replication=40000", "replication=40000"),
            ("kafka://h?event_bytes_max=1", "event_bytes_max"),
        ] {
            let error = KafkaConfig::from_url(url).unwrap_err();
            let text = format!("{error:?}");
            assert!(text.contains(told), "{url}: {text}");
            assert!(!text.contains("secret"), "{url}: {text}");
        }
        let config = KafkaConfig::from_url("kafka://u:secret@h").unwrap();
        assert!(!format!("{config:?}").contains("secret"));
    }
}
