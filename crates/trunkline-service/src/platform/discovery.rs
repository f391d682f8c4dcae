//! Who knows where services are, by their URLs, and telling them where ours are.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::join_all;
use trunkline_call::balance::Balance;
use trunkline_call::discovery::{Consul, Discovery, Dns, Fixed, Instance, Registration, Registry};
use trunkline_call::{Network, Responses};
use trunkline_core::{ByteString, Env, Error, ErrorKind, Result};

use crate::Config;
use crate::config::place::Whereabouts;

/// Puts services that run elsewhere on the network. Those that are found by the same URL share what knows them.
#[derive(Default)]
pub(super) struct Finder {
    known: HashMap<String, Arc<dyn Discovery>>,
}

impl Finder {
    /// Whether the service has a place; if so, it is on the network now.
    pub(super) fn put(
        &mut self,
        (name, responses): (&ByteString, Responses),
        config: &Config,
        network: &Network,
    ) -> Result<bool> {
        let named = |error: Error| error.with("section", format!("service.{name}"));
        let Some(place) = config.place_of(name)? else {
            return Ok(false);
        };
        let mut balance = Balance::default();
        if let Some(header) = config.affinity_of(name)? {
            balance = balance.with_affinity(header);
        }
        let discovery: Arc<dyn Discovery> = match place {
            Whereabouts::Url(url) => {
                let put = network.remote(name.clone(), &url, responses);
                return put.map(|()| true).map_err(named);
            }
            Whereabouts::Urls(urls) => Arc::new(Fixed::urls(urls).map_err(named)?),
            Whereabouts::Found(url) if url == "env:" => {
                let fixed = Fixed::from_variables(name, |name| config.variable(name));
                Arc::new(fixed.map_err(named)?)
            }
            Whereabouts::Found(url) => match self.known.get(&url) {
                Some(known) => known.clone(),
                None => {
                    let opened = open(&url).map_err(named)?;
                    self.known.insert(url, opened.clone());
                    opened
                }
            },
        };
        network.discover(name.clone(), discovery, balance, responses);
        Ok(true)
    }
}

fn open(url: &str) -> Result<Arc<dyn Discovery>> {
    match crate::config::scheme(url) {
        "dns" | "srv" => Ok(Arc::new(Dns::from_url(url)?)),
        "consul" => Ok(Arc::new(Consul::from_url(url)?)),
        #[cfg(feature = "redis")]
        "redis" | "rediss" => Ok(Arc::new(trunkline_redis::RedisRegistry::from_url(url)?)),
        scheme => Err(unknown(
            scheme,
            "env:, dns://, srv://, consul:// or redis://",
        )),
    }
}

fn registry(url: &str) -> Result<Arc<dyn Registry>> {
    match crate::config::scheme(url) {
        "consul" => Ok(Arc::new(Consul::from_url(url)?)),
        #[cfg(feature = "redis")]
        "redis" | "rediss" => Ok(Arc::new(trunkline_redis::RedisRegistry::from_url(url)?)),
        scheme => Err(unknown(scheme, "consul:// or redis://")),
    }
}

#[cold]
fn unknown(scheme: &str, expected: &str) -> Error {
    if scheme.starts_with("redis") && !cfg!(feature = "redis") {
        let text = "this program was built without Redis; build it with the feature `redis`";
        return Error::new(ErrorKind::Unsupported, "discovery_not_built", text);
    }
    let text = format!("expected a URL that says who knows where services are: {expected}");
    Error::invalid("discovery_unknown", text).with("found", scheme)
}

/// What will be registered once the doors are open.
pub(super) struct Announcements(Vec<(ByteString, Arc<dyn Registry>, Instance)>);

impl Announcements {
    /// Checks what the configuration says of them, before anything is begun.
    pub(super) fn of<'a>(
        config: &Config,
        listens: impl Iterator<Item = (&'a ByteString, SocketAddr)>,
    ) -> Result<Self> {
        let Some(url) = &config.discovery.register else {
            return Ok(Self(Vec::new()));
        };
        let mut known: HashMap<String, Arc<dyn Registry>> = HashMap::new();
        let mut all = Vec::new();
        for (service, at) in listens {
            let url = config.url(url, service);
            let named = |error: Error| error.with("section", "discovery").with("key", "register");
            let registry = match known.get(&url) {
                Some(registry) => registry.clone(),
                None => {
                    let opened = registry(&url).map_err(named)?;
                    known.insert(url, opened.clone());
                    opened
                }
            };
            let advertised = config.advertised(service, at)?;
            let instance = Instance::from_url(&advertised)
                .map_err(|error| error.with("section", format!("service.{service}")))?;
            all.push((service.clone(), registry, instance));
        }
        Ok(Self(all))
    }

    /// Registers them, side by side. A registry that is away is told later.
    pub(super) async fn make(self, env: &Env) -> Vec<Registration> {
        let all = self.0.into_iter();
        join_all(all.map(|(service, registry, instance)| {
            Registration::start(registry, service, instance, env.clone())
        }))
        .await
    }
}

/// Takes them out of their registries.
pub(super) async fn withdraw(registrations: Vec<Registration>) {
    let gone = registrations.into_iter().map(Registration::withdraw);
    for error in join_all(gone).await.into_iter().filter_map(Result::err) {
        tracing::warn!(%error, "a service could not be taken out of the registry; it is forgotten there in time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_nobody_is_told_with_what_was_expected() {
        let error = open("etcd://h").err().unwrap().to_string();
        assert!(
            error.contains("consul://") && error.contains("etcd"),
            "{error}"
        );
        let error = registry("dns://h:1").err().unwrap().to_string();
        assert!(error.contains("consul:// or redis://"), "{error}");
        for url in ["dns://h:1?server=127.0.0.1:1", "consul://h/{service}"] {
            let opened = open(&url.replace("{service}", "a"));
            assert!(opened.is_ok(), "{url}");
        }
        let redis = open("redis://h");
        assert_eq!(redis.is_ok(), cfg!(feature = "redis"));
    }
}
