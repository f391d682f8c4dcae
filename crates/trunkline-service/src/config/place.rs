//! What of a platform runs in this process, and where the rest is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Deserializer};
use trunkline_core::{Error, Result};

use super::Config;

/// What `run` calls the gateway, with the trail and the console.
pub(crate) const GATEWAY: &str = "gateway";

/// Keys of a service's section that are the platform's business.
pub(super) const KEYS: [&str; 2] = ["url", "listen"];

impl Config {
    /// Whether a service, or `gateway`, runs in this process.
    pub fn runs(&self, name: &str) -> bool {
        if self.run.is_empty() {
            return name == GATEWAY || self.text_of(name, "url").ok().flatten().is_none();
        }
        self.run.iter().any(|one| one == name)
    }

    /// Whether this process runs less than the whole platform by its own choice.
    pub(crate) fn is_partial(&self) -> bool {
        !self.run.is_empty()
    }

    /// Where other processes find a service.
    ///
    /// # Errors
    /// `InvalidInput` when it is no text.
    pub(crate) fn url_of(&self, service: &str) -> Result<Option<&str>> {
        self.text_of(service, "url")
    }

    /// Where a service that runs here listens for other processes: what `listen` says, or else the port of its `url`
    /// where this process was told what to run.
    ///
    /// # Errors
    /// `InvalidInput` when that is no address.
    pub(crate) fn listen_of(&self, service: &str) -> Result<Option<SocketAddr>> {
        let wrong = |key: &str, found: &str| {
            Error::invalid(
                "config_invalid",
                "expected an address such as 127.0.0.1:7001",
            )
            .with("section", format!("service.{service}"))
            .with("key", key)
            .with("found", found)
        };
        if let Some(listen) = self.text_of(service, "listen")? {
            return listen
                .parse()
                .map(Some)
                .map_err(|_| wrong("listen", listen));
        }
        let Some(url) = self.url_of(service)?.filter(|_| self.is_partial()) else {
            return Ok(None);
        };
        let uri: http::Uri = url.parse().map_err(|_| wrong("url", url))?;
        let host = uri.host().ok_or_else(|| wrong("url", url))?;
        let ip = match host.trim_matches(['[', ']']) {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            // A name is of the network around this machine: whoever comes by it comes to some address of ours.
            host => host.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        };
        Ok(Some(SocketAddr::new(ip, uri.port_u16().unwrap_or(80))))
    }

    fn text_of(&self, service: &str, key: &str) -> Result<Option<&str>> {
        let Some(value) = self
            .service
            .get(service)
            .and_then(|section| section.get(key))
        else {
            return Ok(None);
        };
        value.as_str().map(Some).ok_or_else(|| {
            Error::invalid("config_invalid", format!("expected `{key}` to be a text"))
                .with("section", format!("service.{service}"))
        })
    }
}

/// A list of names, or a text with commas between them, as an environment variable gives it.
pub(super) fn names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a name, or a list of names")]
    enum Names {
        Text(String),
        List(Vec<String>),
    }
    let names = match Names::deserialize(from)? {
        Names::List(names) => names,
        Names::Text(text) => text.split(',').map(|name| name.trim().to_owned()).collect(),
    };
    Ok(names.into_iter().filter(|name| !name.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Config {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let owned = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(Some(file.path()), owned).unwrap()
    }

    const PLACES: &str = "[service.a]\nurl = \"http://localhost:7001\"\n\
        [service.b]\nurl = \"http://b.shop:80/\"\nlisten = \"127.0.0.1:7002\"\n\
        [service.c]\nurl = \"http://c.shop:7003\"\n";

    #[test]
    fn without_a_choice_everything_runs_here_that_has_no_address_elsewhere() {
        let config = load(PLACES, &[]);
        assert!(config.runs(GATEWAY) && config.runs("d"));
        assert!(!config.runs("a"));
        assert_eq!(config.listen_of("a").unwrap(), None);
    }

    #[test]
    fn what_is_chosen_runs_here_and_listens_where_others_find_it() {
        let config = load(PLACES, &[("TRUNKLINE__RUN", "a, b,c")]);
        assert_eq!(config.run, ["a", "b", "c"]);
        assert!(config.runs("b") && !config.runs(GATEWAY) && !config.runs("d"));
        let listens = |service| config.listen_of(service).unwrap().unwrap().to_string();
        assert_eq!(listens("a"), "127.0.0.1:7001");
        assert_eq!(listens("b"), "127.0.0.1:7002");
        assert_eq!(listens("c"), "0.0.0.0:7003");
        let config = load("run = [\"gateway\"]\n", &[]);
        assert!(config.runs(GATEWAY) && !config.runs("a"));
    }

    #[test]
    fn an_address_that_is_none_is_told_with_its_section() {
        let config = load("run = \"a\"\n[service.a]\nlisten = \"here\"\n", &[]);
        let error = config.listen_of("a").unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:7001"), "{error}");
        let config = load("run = \"a\"\n[service.a]\nurl = 7\n", &[]);
        let error = config.url_of("a").unwrap_err().to_string();
        assert!(error.contains("expected `url` to be a text"), "{error}");
    }
}
