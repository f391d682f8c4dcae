//! What of a platform runs in this process, and where the rest is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Deserializer};
use trunkline_core::{Error, Result};

use super::{Config, ExternalAddress};

/// What `run` calls the gateway, with the trail and the console.
pub(crate) const GATEWAY: &str = "gateway";

/// The name under which the console, which runs beside the gateway, looks into other processes.
pub(crate) const CONSOLE: &str = "console";

/// Keys of a service's section that say where it is: one of them at most.
const PLACES: [&str; 3] = ["url", "urls", "discover"];
/// Keys of a service's section that are the platform's business.
pub(crate) const KEYS: [&str; 6] = ["url", "urls", "discover", "affinity", "listen", "advertise"];

/// Where a service is that does not run in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// At one address, behind which there may be many.
    Url(String),
    /// At each of these.
    Urls(Vec<String>),
    /// Where somebody says who knows.
    Found(String),
}

/// The environment variable that says a value of a service's section.
pub(crate) fn variable(service: &str, key: &str) -> String {
    let name = service.to_ascii_uppercase().replace('-', "_");
    format!("TRUNKLINE__SERVICE__{name}__{key}")
}

impl Config {
    /// Whether a service, or `gateway`, runs in this process.
    pub fn runs(&self, name: &str) -> bool {
        if self.run.is_empty() {
            let section = self.service.get(name);
            let has = |key: &&str| section.is_some_and(|section| section.contains_key(*key));
            return name == GATEWAY || !PLACES.iter().any(has);
        }
        self.run.iter().any(|one| one == name)
    }

    /// Says where a service outside the platform is, over whatever was said of it.
    pub fn place_external(&mut self, name: &str, url: &str) {
        let url = url.to_owned();
        self.external
            .insert(name.to_owned(), ExternalAddress { url });
    }

    /// Sets a value of a service's section where nothing is said of it.
    pub fn default_for(&mut self, service: &str, key: &str, value: impl Into<toml::Value>) {
        let section = self.service.entry(service.to_owned()).or_default();
        section.entry(key).or_insert(value.into());
    }

    /// Whether this process runs less than the whole platform by its own choice.
    pub(crate) fn is_partial(&self) -> bool {
        !self.run.is_empty()
    }

    /// Where a service is that does not run here: what its section says, or else `find` of the section `discovery`.
    ///
    /// # Errors
    /// `InvalidInput` when that is of another form than expected, or is said in two ways.
    pub(crate) fn place_of(&self, service: &str) -> Result<Option<Whereabouts>> {
        let said = self.service.get(service).map(|section| {
            let keys = PLACES.iter().filter(|key| section.contains_key(**key));
            keys.copied().collect::<Vec<_>>()
        });
        let said = said.unwrap_or_default();
        if said.len() > 1 {
            let text = format!("expected one of {}", PLACES.join(", "));
            return Err(Error::invalid("config_invalid", text)
                .with("section", format!("service.{service}"))
                .with("found", said.join(" and ")));
        }
        if let Some(urls) = self.urls_of(service)? {
            return Ok(Some(Whereabouts::Urls(urls)));
        }
        if let Some(url) = self.url_of(service)? {
            return Ok(Some(Whereabouts::Url(url.to_owned())));
        }
        let found = self.text_of(service, "discover")?;
        let found = found.or(self.discovery.find.as_deref());
        Ok(found.map(|url| Whereabouts::Found(self.url(url, service))))
    }

    /// The header by whose value calls to a service go to the same instance.
    ///
    /// # Errors
    /// `InvalidInput` when it is no name of a header.
    pub(crate) fn affinity_of(&self, service: &str) -> Result<Option<http::HeaderName>> {
        let Some(name) = self.text_of(service, "affinity")? else {
            return Ok(None);
        };
        name.parse().map(Some).map_err(|_| {
            Error::invalid(
                "config_invalid",
                "expected `affinity` to be the name of a header",
            )
            .with("section", format!("service.{service}"))
            .with("found", name)
        })
    }

    fn urls_of(&self, service: &str) -> Result<Option<Vec<String>>> {
        let section = self.service.get(service);
        let Some(value) = section.and_then(|section| section.get("urls")) else {
            return Ok(None);
        };
        names(value.clone()).map(Some).map_err(|_| {
            let text =
                "expected `urls` to be a list of addresses such as [\"http://127.0.0.1:7001\"]";
            Error::invalid("config_invalid", text).with("section", format!("service.{service}"))
        })
    }

    /// Where other processes find a service, if its section says one address.
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
        let port = match uri.scheme_str() {
            Some("https") => 443,
            _ => 80,
        };
        Ok(Some(SocketAddr::new(ip, uri.port_u16().unwrap_or(port))))
    }

    pub(super) fn text_of(&self, service: &str, key: &str) -> Result<Option<&str>> {
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
    fn a_service_has_one_place_and_the_default_where_nothing_is_said() {
        let text = "[discovery]\nfind = \"redis://h?prefix={service}:\"\n\
            [service.a]\nurls = [\"http://a:1\", \"http://b:1\"]\n\
            [service.b]\ndiscover = \"dns://{service}.shop.svc:7001\"\naffinity = \"x-user-id\"\n\
            [service.c]\nurl = \"http://c:1\"\n";
        let config = load(
            text,
            &[("TRUNKLINE__SERVICE__D__URLS", "http://d:1, http://e:1")],
        );
        let place = |service| config.place_of(service).unwrap().unwrap();
        let urls = |urls: [&str; 2]| Whereabouts::Urls(urls.map(str::to_owned).to_vec());
        assert_eq!(place("a"), urls(["http://a:1", "http://b:1"]));
        assert_eq!(place("d"), urls(["http://d:1", "http://e:1"]));
        assert_eq!(
            place("b"),
            Whereabouts::Found("dns://b.shop.svc:7001".to_owned())
        );
        assert_eq!(place("c"), Whereabouts::Url("http://c:1".to_owned()));
        assert_eq!(
            place("e"),
            Whereabouts::Found("redis://h?prefix=e:".to_owned())
        );
        assert!(!config.runs("a") && !config.runs("b") && config.runs("e"));
        assert_eq!(config.affinity_of("b").unwrap().unwrap(), "x-user-id");
        for (text, said) in [
            (
                "[service.a]\nurl = \"http://a:1\"\ndiscover = \"env:\"\n",
                "url and discover",
            ),
            ("[service.a]\nurls = 7\n", "expected `urls`"),
            (
                "[service.a]\ndiscover = 7\n",
                "expected `discover` to be a text",
            ),
        ] {
            let error = load(text, &[]).place_of("a").unwrap_err().to_string();
            assert!(
                error.contains(said) && error.contains("service.a"),
                "{error}"
            );
        }
        let config = load("[service.a]\naffinity = \"a b\"\n", &[]);
        assert!(
            config
                .affinity_of("a")
                .unwrap_err()
                .to_string()
                .contains("name of a header")
        );
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
