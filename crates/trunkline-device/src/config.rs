//! Where the broker is, and every bound of the gateway.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use trunkline_core::{Error, Result};

/// How the gateway reaches its broker, and its bounds. Made by [`DeviceConfig::from_url`].
#[derive(Clone)]
#[non_exhaustive]
pub struct DeviceConfig {
    /// The broker's name or address.
    pub host: String,
    /// Its port: 1883, or 8883 with TLS.
    pub port: u16,
    /// The gateway's own name at the broker, and the name of its session there: one running gateway each.
    pub client_id: String,
    /// The gateway's own user and password.
    pub credentials: Option<(String, String)>,
    /// Whether TLS is spoken.
    pub is_tls: bool,
    /// A PEM file of the authorities that are trusted; needed for TLS.
    pub ca: Option<PathBuf>,
    /// The largest packet that the broker may hand over: 256 KiB. The broker keeps larger ones to itself.
    pub packet_bytes_max: u32,
    /// How many messages may be handed over and not acknowledged yet: 1,024. The broker keeps the rest.
    pub in_flight_max: u16,
    /// How long the broker keeps what comes for a gateway that is away: a day.
    pub session: Duration,
    /// How long what comes is gathered for one batch, unless nothing came for as long: not at all. It spares transactions
    /// where many devices report.
    pub gather: Duration,
    /// How many devices are told apart: 100,000. More are refused.
    pub devices_max: usize,
    /// How many messages a second one device may send for long: 5. What is more is refused.
    pub rate_per_second: u32,
    /// How many it may send at once: 50.
    pub burst_max: u32,
    /// How long a device has to be away before it is told: 5 s. It doubles with each time that it comes and goes, five
    /// times at most.
    pub offline_after: Duration,
    /// A device that said nothing for so long is offline, whatever its last will says: 15 minutes.
    pub silence_max: Duration,
    /// How long a device may take to answer a command before it is sent again: 10 s, doubled each time, up to 5 minutes.
    pub answer_within: Duration,
    /// How many commands of one device may wait: 64. One more is refused to the caller.
    pub commands_max: u32,
}

impl DeviceConfig {
    /// The defaults, for the broker at `mqtt://user:password@host:port` or, with TLS, `mqtts://…`; `client_id` names the
    /// gateway.
    ///
    /// # Errors
    /// `InvalidInput` for what is no such URL.
    pub fn from_url(url: &str, client_id: impl Into<String>) -> Result<Self> {
        let bad = || {
            let text =
                "expected the broker's URL to be mqtt://USER:PASSWORD@HOST:PORT or mqtts://…";
            Error::invalid("device_broker_invalid", text)
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
        let is_tls = match scheme {
            "mqtt" => false,
            "mqtts" => true,
            _ => return Err(bad()),
        };
        let (user, place) = match rest.trim_end_matches('/').rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest.trim_end_matches('/')),
        };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') => (host, port.parse().map_err(|_| bad())?),
            _ => (place, if is_tls { 8883 } else { 1883 }),
        };
        if host.is_empty() || host.contains(['/', '?', '#', ' ']) {
            return Err(bad());
        }
        let credentials = user.map(|user| user.split_once(':').unwrap_or((user, "")));
        Ok(Self {
            host: host.to_owned(),
            port,
            client_id: client_id.into(),
            credentials: credentials.map(|(user, word)| (user.to_owned(), word.to_owned())),
            is_tls,
            ca: None,
            packet_bytes_max: 256 << 10,
            in_flight_max: 1_024,
            session: Duration::from_secs(86_400),
            gather: Duration::ZERO,
            devices_max: 100_000,
            rate_per_second: 5,
            burst_max: 50,
            offline_after: Duration::from_secs(5),
            silence_max: Duration::from_secs(900),
            answer_within: Duration::from_secs(10),
            commands_max: 64,
        })
    }

    pub(crate) fn check(&self) -> Result<()> {
        let bad = |message: &'static str| Err(Error::invalid("device_config_invalid", message));
        if self.client_id.is_empty() || self.client_id.len() > 128 {
            return bad("expected a client id of 1 to 128 bytes");
        }
        if self.is_tls && self.ca.is_none() {
            return bad(
                "expected `ca`, the file of the authorities that are trusted: the broker is spoken to by TLS",
            );
        }
        if self.in_flight_max == 0 || self.rate_per_second == 0 || self.burst_max == 0 {
            return bad("expected in_flight_max, rate_per_second and burst_max to be at least 1");
        }
        if self.packet_bytes_max < 1_024 || self.devices_max == 0 || self.commands_max == 0 {
            return bad(
                "expected packet_bytes_max of at least 1,024, devices_max and commands_max of at least 1",
            );
        }
        if self.answer_within.is_zero() || self.silence_max < Duration::from_secs(1) {
            return bad("expected answer_within above zero, and silence_max of at least 1 s");
        }
        Ok(())
    }
}

impl fmt::Debug for DeviceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceConfig")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("client_id", &self.client_id)
            .field("tls", &self.is_tls)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_the_broker_is() {
        let config = DeviceConfig::from_url("mqtt://gate:se:cret@broker:1884", "g").unwrap();
        assert_eq!((config.host.as_str(), config.port), ("broker", 1884));
        let credentials = config.credentials.clone().unwrap();
        assert_eq!(credentials, ("gate".to_owned(), "se:cret".to_owned()));
        assert!(!format!("{config:?}").contains("cret"));
        let config = DeviceConfig::from_url("mqtts://broker/", "g").unwrap();
        assert_eq!((config.port, config.is_tls), (8883, true));
        for url in [
            "",
            "broker",
            "http://broker",
            "mqtt://",
            "mqtt://h:port",
            "mqtt://a/b",
        ] {
            assert!(DeviceConfig::from_url(url, "g").is_err(), "{url}");
        }
    }
}
