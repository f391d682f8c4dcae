//! Who knows where services are, by their URLs, and telling them where ours are.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use trunkline_call::balance::Balance;
use trunkline_call::discovery::{Consul, Discovery, Fixed, Instance, Registration, Registry};
use trunkline_call::{Network, Responses};
use trunkline_core::{ByteString, Env, Error, ErrorKind, Result};
use trunkline_telemetry::Health;

use super::health::can_answer;
use crate::Config;
use crate::config::place::Whereabouts;

/// So often a registered service is looked at, whether it can answer calls.
const LOOK_EVERY: Duration = Duration::from_secs(5);

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
        #[cfg(feature = "dns")]
        "dns" | "srv" => Ok(Arc::new(trunkline_call::discovery::Dns::from_url(url)?)),
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
    let not_built = match scheme {
        "redis" | "rediss" if !cfg!(feature = "redis") => Some("redis"),
        // Nothing can be registered at a name server.
        "dns" | "srv" if expected.contains("dns") && !cfg!(feature = "dns") => Some("dns"),
        _ => None,
    };
    if let Some(feature) = not_built {
        let text =
            format!("this program was built without the feature `{feature}`: build it with it");
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

    /// Registers them, side by side, as well as they are. A registry that is away is told later.
    pub(super) async fn make(self, health: &[Health], env: &Env) -> Announced {
        let all = self.0.into_iter().map(|(service, registry, instance)| {
            let health = health.iter().find(|one| *one.service() == service).cloned();
            async move {
                let well = is_well(health.as_ref()).await;
                let instance = instance.with_health(well);
                let made = Registration::start(registry, service, instance, env.clone());
                (made.await, health)
            }
        });
        let made = join_all(all).await;
        let stop = CancellationToken::new();
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(made, stop.clone()));
        Announced { stop, keeper }
    }
}

async fn is_well(health: Option<&Health>) -> bool {
    match health {
        Some(health) => can_answer(health).await,
        None => true,
    }
}

/// Looks at each service from time to time, and says how it is; gives the registrations back in the end.
async fn keep(
    registrations: Vec<(Registration, Option<Health>)>,
    stop: CancellationToken,
) -> Vec<Registration> {
    let look = async {
        loop {
            sleep(LOOK_EVERY).await;
            let all = registrations.iter().map(|(registration, health)| async {
                let well = is_well(health.as_ref()).await;
                if registration.instance().healthy != well {
                    let instance = registration.instance();
                    tracing::info!(?instance, well, "a registry is told how a service is");
                }
                registration.set_healthy(well);
            });
            join_all(all).await;
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = look => {}
    }
    registrations.into_iter().map(|(one, _)| one).collect()
}

/// The services that are registered. Dropped, they are forgotten by their registries in time, as if the process were
/// killed.
pub(super) struct Announced {
    stop: CancellationToken,
    keeper: JoinSet<Vec<Registration>>,
}

impl Announced {
    /// Takes them out of their registries.
    pub(super) async fn withdraw(mut self) {
        self.stop.cancel();
        let Some(Ok(registrations)) = self.keeper.join_next().await else {
            return;
        };
        let gone = registrations.into_iter().map(Registration::withdraw);
        for error in join_all(gone).await.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "a service could not be taken out of the registry; it is forgotten there in time");
        }
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
        assert!(open("consul://h/a").is_ok());
        for (url, is_built) in [
            ("redis://h", cfg!(feature = "redis")),
            ("dns://h:1?server=127.0.0.1:1", cfg!(feature = "dns")),
            ("srv://_http._tcp.h", cfg!(feature = "dns")),
        ] {
            let told = open(url).err().map(|error| error.to_string());
            assert_eq!(told.is_none(), is_built, "{url}: {told:?}");
            let names = |told: String| told.contains("built without the feature `");
            assert!(told.is_none_or(names), "{url}");
        }
    }
}
