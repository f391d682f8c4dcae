//! A name server: addresses (A, AAAA) or places (SRV), also those of Kubernetes' headless services.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::time::sleep;
use trunkline_core::{Error, Result};

use super::url::{Url, millis, wrong};
use super::{Discovery, INSTANCES_MAX, Instance, readable};

/// A record is looked at again no sooner than this, whatever its time to live says, and no later than that.
const TTL_MIN: Duration = Duration::from_secs(5);
const TTL_MAX: Duration = Duration::from_secs(60);
/// How long a name server has for one answer, and how often it is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// How many names of an SRV record are looked up side by side.
const LOOKUPS_MAX: usize = 16;

/// Looks a service up at a name server.
///
/// # Guarantees
/// Each list is as old as the shortest time to live of its records, but at least 5 s and at most 60 s. A name that is
/// not there, or has no addresses, is an error: so the last known instances stay, for a name server that lost its
/// zone looks the same as a service without instances.
#[derive(Clone)]
pub struct Dns(Arc<Inner>);

struct Inner {
    name: String,
    /// The port, where the records don't say it.
    port: Option<u16>,
    ttl_min: Duration,
    ttl_max: Duration,
    resolver: TokioResolver,
}

impl Dns {
    /// Reads a URL such as `dns://inventory.shop.svc:7001` or `srv://_http._tcp.inventory.shop.svc`.
    ///
    /// # Shape
    /// Parameters: `server=host:port`, the name server instead of the machine's own; `ttl_min_ms=` (5,000) and
    /// `ttl_max_ms=` (60,000), between which times to live are kept. A name that ends with a dot is whole; others are
    /// tried with the machine's search domains too. Of an SRV record those of the lowest priority are used, with their
    /// weights.
    ///
    /// # Errors
    /// `InvalidInput` that says what was expected; `Unavailable` when the machine's name servers are not known.
    pub fn from_url(url: &str) -> Result<Self> {
        let expected = "expected dns://name:port or srv://_service._proto.name";
        let parts = Url::parse(url).ok_or_else(|| wrong(expected, url))?;
        let (name, port) = match parts.scheme {
            "dns" => {
                let place = parts.place.rsplit_once(':');
                let port = place.and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?)));
                let (name, port) = port
                    .filter(|(_, port)| *port != 0)
                    .ok_or_else(|| wrong("expected a name with a port: dns://name:port", url))?;
                (name, Some(port))
            }
            "srv" => (parts.place, None),
            _ => return Err(wrong(expected, url)),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if name.is_empty()
            || name.len() > 254
            || !name.bytes().all(is_name)
            || !parts.path.is_empty()
        {
            return Err(wrong(expected, url));
        }
        let (mut server, mut ttl_min, mut ttl_max) = (None, TTL_MIN, TTL_MAX);
        for (key, value) in parts.parameters() {
            match key {
                "server" => {
                    let address = value.parse::<SocketAddr>();
                    let expected = "expected `server` to be an address such as 10.96.0.10:53";
                    server = Some(address.map_err(|_| wrong(expected, value))?);
                }
                "ttl_min_ms" => ttl_min = millis(key, value, 10)?,
                "ttl_max_ms" => ttl_max = millis(key, value, 10)?,
                _ => {
                    let expected = "expected one of server, ttl_min_ms, ttl_max_ms";
                    return Err(wrong(expected, key));
                }
            }
        }
        Ok(Self(Arc::new(Inner {
            name: name.to_owned(),
            port,
            ttl_min,
            ttl_max: ttl_max.max(ttl_min),
            resolver: resolver(server)?,
        })))
    }
}

fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver> {
    let unusable = |error: NetError| {
        Error::unavailable(
            "name_server_unknown",
            "the machine's name servers can't be read",
        )
        .with_source(error)
    };
    let mut builder = match server {
        None => TokioResolver::builder_tokio().map_err(unusable)?,
        Some(server) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            let connections = connections.map(|mut connection| {
                connection.port = server.port();
                connection
            });
            let server = NameServerConfig::new(server.ip(), true, connections.into());
            let config = ResolverConfig::from_name_servers(vec![server]);
            Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = ANSWER_WITHIN;
    options.attempts = ATTEMPTS;
    // What is looked at again is asked for again: times to live are kept here.
    options.cache_size = 0;
    builder.build().map_err(unusable)
}

impl Inner {
    /// The instances now, and how long that holds.
    async fn look(&self) -> Result<(Vec<Instance>, Duration)> {
        let (list, ttl) = match self.port {
            Some(port) => self.addresses(&self.name, port).await?,
            None => self.places().await?,
        };
        Ok((list, ttl.clamp(self.ttl_min, self.ttl_max)))
    }

    async fn addresses(&self, name: &str, port: u16) -> Result<(Vec<Instance>, Duration)> {
        let found = self.resolver.lookup_ip(name).await;
        let found = found.map_err(|error| self.unanswered(error))?;
        let records = found.as_lookup().answers().iter();
        let ttl = records.map(|record| record.ttl).min().unwrap_or_default();
        let addresses = found.iter().take(INSTANCES_MAX);
        let list = readable(addresses.map(|ip| Instance::at(&ip.to_string(), port)))?;
        Ok((list, Duration::from_secs(ttl.into())))
    }

    async fn places(&self) -> Result<(Vec<Instance>, Duration)> {
        let found = self
            .resolver
            .lookup(self.name.as_str(), RecordType::SRV)
            .await;
        let found = found.map_err(|error| self.unanswered(error))?;
        let places = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                // The root as the target says that the service is not offered.
                RData::SRV(place) if !place.target.is_root() => Some((record.ttl, place.clone())),
                _ => None,
            });
        let mut places: Vec<_> = places.take(INSTANCES_MAX).collect();
        let best = places.iter().map(|(_, place)| place.priority).min();
        places.retain(|(_, place)| Some(place.priority) == best);
        if places.is_empty() {
            let text = "the name has no record of a place";
            return Err(Error::unavailable("name_unknown", text).with("name", &self.name));
        }
        let looked = stream::iter(places).map(|(ttl, place)| async move {
            let target = place.target.to_ascii();
            let (list, its) = self.addresses(&target, place.port).await?;
            let weighted = list
                .into_iter()
                .map(|one| one.with_weight(place.weight.into()));
            let ttl = its.min(Duration::from_secs(ttl.into()));
            Ok((weighted.collect::<Vec<_>>(), ttl))
        });
        let looked: Vec<Result<_>> = looked.buffered(LOOKUPS_MAX).collect().await;
        let (mut list, mut ttl, mut last_error) = (Vec::new(), Duration::MAX, None);
        for one in looked {
            match one {
                Ok((instances, its)) => {
                    list.extend(instances);
                    ttl = ttl.min(its);
                }
                Err(error) => last_error = Some(error),
            }
        }
        match last_error {
            // A part of them would do the work of all.
            Some(error) if list.is_empty() => Err(error),
            Some(error) => {
                tracing::warn!(name = %self.name, %error, "a place of the service has no address");
                Ok((list, self.ttl_min))
            }
            None => Ok((list, ttl)),
        }
    }

    #[cold]
    fn unanswered(&self, error: NetError) -> Error {
        let (code, text) = if error.is_no_records_found() || error.is_nx_domain() {
            (
                "name_unknown",
                "the name server knows no address of the name",
            )
        } else {
            (
                "name_server_unreachable",
                "the name server gives no usable answer",
            )
        };
        Error::unavailable(code, text)
            .with("name", &self.name)
            .with_source(error)
    }
}

impl Discovery for Dns {
    fn watch(&self, _: &str) -> BoxStream<'static, Result<Vec<Instance>>> {
        let start = (self.0.clone(), Duration::ZERO);
        stream::try_unfold(start, |(dns, pause)| async move {
            sleep(pause).await;
            let (list, ttl) = dns.look().await?;
            Ok(Some((list, (dns, ttl))))
        })
        .boxed()
    }
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns")
            .field("name", &self.0.name)
            .field("port", &self.0.port)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
