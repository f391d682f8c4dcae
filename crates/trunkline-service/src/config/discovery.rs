//! How services find each other.

use std::net::SocketAddr;

use serde::Deserialize;
use trunkline_core::{Error, Result};

use super::Config;

/// How services are found of which nothing else is said, and where those that run here are registered.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Finding {
    /// Who knows where services are that neither run here nor have a place in their sections: `env:`,
    /// `dns://{service}.shop.svc:7001`, `srv://_http._tcp.{service}.shop.svc`, `consul://127.0.0.1:8500`,
    /// `redis://127.0.0.1:6379`; none by default.
    pub find: Option<String>,
    /// Who is told where the services are that listen here: `consul://` or `redis://`; none by default.
    pub register: Option<String>,
    /// The host by which others reach this process, where `listen` is no address of one machine.
    pub host: Option<String>,
}

impl std::fmt::Debug for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URLs may hold passwords and tokens.
        f.debug_struct("Finding")
            .field("find", &self.find.as_deref().map(scheme))
            .field("register", &self.register.as_deref().map(scheme))
            .field("host", &self.host)
            .finish()
    }
}

/// What a URL begins with, up to its colon.
pub(crate) fn scheme(url: &str) -> &str {
    url.split_once(':').map_or("", |(scheme, _)| scheme)
}

impl Config {
    /// An environment variable that may say where a service is.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.source.places.get(name).cloned()
    }

    /// The address by which others reach a service that listens here: `advertise` or `url` of its section, or the
    /// host of the section `discovery`, or where it listens.
    ///
    /// # Errors
    /// `InvalidInput` when that says nothing to another machine.
    pub(crate) fn advertised(&self, service: &str, listens: SocketAddr) -> Result<String> {
        if let Some(url) = self.text_of(service, "advertise")? {
            return Ok(url.to_owned());
        }
        if let Some(url) = self.url_of(service)? {
            return Ok(url.to_owned());
        }
        let scheme = self.scheme();
        match &self.discovery.host {
            Some(host) if host.contains(':') => {
                Ok(format!("{scheme}://[{host}]:{}", listens.port()))
            }
            Some(host) => Ok(format!("{scheme}://{host}:{}", listens.port())),
            None if !listens.ip().is_unspecified() => Ok(format!("{scheme}://{listens}")),
            None => {
                let text = "expected `advertise`, or `host` in [discovery]: nobody is reached at the address that it \
                            listens on";
                Err(Error::invalid("address_missing", text)
                    .with("section", format!("service.{service}"))
                    .with("listens", listens))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Config {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(Some(file.path()), []).unwrap()
    }

    #[test]
    fn what_is_advertised_reaches_it() {
        let anywhere: SocketAddr = "0.0.0.0:7001".parse().unwrap();
        let of = |text: &str, at| {
            load(text)
                .advertised("a", at)
                .map_err(|error| error.to_string())
        };
        let here = "127.0.0.1:7001".parse().unwrap();
        assert_eq!(of("", here).unwrap(), "http://127.0.0.1:7001");
        assert!(
            of("", anywhere)
                .unwrap_err()
                .contains("`host` in [discovery]")
        );
        let host = "[discovery]\nhost = \"10.0.0.7\"\n";
        assert_eq!(of(host, anywhere).unwrap(), "http://10.0.0.7:7001");
        let host = "[discovery]\nhost = \"fd00::7\"\n";
        assert_eq!(of(host, anywhere).unwrap(), "http://[fd00::7]:7001");
        let secured = "[tls]\n[discovery]\nhost = \"10.0.0.7\"\n";
        assert_eq!(of(secured, anywhere).unwrap(), "https://10.0.0.7:7001");
        let own = "[service.a]\nadvertise = \"http://a.shop:80\"\n";
        assert_eq!(of(own, anywhere).unwrap(), "http://a.shop:80");
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = load("[discovery]\nregister = \"redis://:hunter2@h\"\n");
        let text = format!("{:?}", config.discovery);
        assert!(
            text.contains("redis") && !text.contains("hunter2"),
            "{text}"
        );
    }
}
