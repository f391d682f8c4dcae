//! Redis as a registry: who is where, by leases and the server's clock.
//!
//! | of the service `s` | Redis, with the prefix `trunkline:` |
//! |---|---|
//! | until when each instance is believed | sorted set `trunkline:{registry:s}:until`: `http://host:port` by milliseconds |
//! | what it is | hash `trunkline:{registry:s}:as`: `http://host:port` to `WEIGHT up` or `WEIGHT down` |
//! | that something changed | channel `trunkline:{registry:s}` |

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use redis::Value;
use redis::aio::PubSub;
use tokio::time::{sleep, timeout};
use trunkline_call::discovery::{
    Discovery, HEARTBEAT, INSTANCES_MAX, Instance, Registry, lease_of, renewal_of,
};
use trunkline_core::{Error, ErrorKind, Result};

use crate::config::RedisConfig;
use crate::link::Link;
use crate::{error, script, value};

/// A longer address, or description of an instance, is not read.
const ADDRESS_BYTES_MAX: usize = 300;

/// A registry on a Redis server. Cheap to clone; a connection is made when it is needed.
///
/// # Guarantees
/// An instance that died is in no list a heartbeat later, and one that withdrew at once; so is one that came or is
/// unwell. It is the server's clock that counts, so clocks of clients may be wrong. A server that was restarted first
/// gives everybody that it remembers the time to speak up.
#[derive(Clone)]
pub struct RedisRegistry(Arc<Inner>);

struct Inner {
    link: Link,
    prefix: ByteString,
    heartbeat: Duration,
}

impl RedisRegistry {
    /// Reads a URL such as `redis://user:password@localhost:6379/0?prefix=shop:&heartbeat_ms=30000`.
    ///
    /// # Shape
    /// As [`RedisConfig::from_url`]; besides, `heartbeat_ms=` (30,000, from 400 on), which has to be the same for all
    /// of a service.
    ///
    /// # Errors
    /// `InvalidInput` that names the parameter and what was expected.
    pub fn from_url(url: &str) -> Result<Self> {
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let mut heartbeat = HEARTBEAT;
        let mut rest = Vec::new();
        for pair in query.split('&') {
            let Some(millis) = pair.strip_prefix("heartbeat_ms=") else {
                rest.push(pair);
                continue;
            };
            let millis = millis.parse().ok().filter(|millis| *millis >= 400);
            heartbeat = Duration::from_millis(millis.ok_or_else(|| {
                let text = "expected `heartbeat_ms` to be a number of milliseconds from 400 on";
                Error::invalid("redis_config_invalid", text).with("found", pair)
            })?);
        }
        let config = RedisConfig::from_url(&format!("{place}?{}", rest.join("&")))?;
        Ok(Self(Arc::new(Inner {
            link: Link::new(&config)?,
            prefix: config.prefix,
            heartbeat,
        })))
    }
}

impl Inner {
    fn channel(&self, service: &str) -> Result<String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if service.is_empty() || service.len() > 255 || !service.bytes().all(plain) {
            let text = "expected a service's name of letters, digits, - . and _";
            return Err(Error::invalid("service_name_invalid", text).with("found", service));
        }
        Ok(format!("{}{{registry:{service}}}", self.prefix))
    }

    fn call(&self, script: &str, channel: &str) -> redis::Cmd {
        script::eval(
            script,
            &[format!("{channel}:until"), format!("{channel}:as")],
        )
    }

    /// Who is there now, and how long that holds at the most.
    async fn list(&self, channel: &str) -> Result<(Vec<Instance>, Duration)> {
        let mut cmd = self.call(script::INSTANCES, channel);
        cmd.arg(millis(lease_of(self.heartbeat)))
            .arg(INSTANCES_MAX)
            .arg(ADDRESS_BYTES_MAX);
        let doing = "the instances of a service can't be listed";
        let answer = self.link.call(doing, &cmd).await?;
        let odd = || error::odd("list the instances of a service");
        let mut values = value::array(answer).ok_or_else(odd)?.into_iter();
        let next = values.next().as_ref().and_then(value::integer);
        let next = next.ok_or_else(odd)?;
        // A notice may be lost: so it is looked at this often in any case.
        let pulse = renewal_of(self.heartbeat);
        let holds = u64::try_from(next).map_or(pulse, |next| Duration::from_millis(next + 1));
        Ok((instances(values)?, holds.min(pulse)))
    }

    async fn announce(&self, service: &str, instance: &Instance) -> Result<Duration> {
        let channel = self.channel(service)?;
        let health = if instance.healthy { "up" } else { "down" };
        let mut cmd = self.call(script::ANNOUNCE, &channel);
        cmd.arg(instance.url())
            .arg(format!("{} {health}", instance.weight))
            .arg(millis(lease_of(self.heartbeat)))
            .arg(&channel)
            .arg(INSTANCES_MAX);
        let answer = self
            .link
            .call("an instance can't be announced", &cmd)
            .await?;
        if value::integer(&answer) == Some(0) {
            let text = "the service has as many instances as are registered";
            return Err(
                Error::new(ErrorKind::Overloaded, "instances_too_many", text)
                    .with("service", service)
                    .with("max", INSTANCES_MAX),
            );
        }
        Ok(renewal_of(self.heartbeat))
    }

    async fn withdraw(&self, service: &str, instance: &Instance) -> Result<()> {
        let channel = self.channel(service)?;
        let mut cmd = self.call(script::WITHDRAW, &channel);
        cmd.arg(instance.url()).arg(&channel);
        self.link
            .call("an instance can't be withdrawn", &cmd)
            .await?;
        Ok(())
    }

    async fn listen(&self, channel: &str) -> Result<PubSub> {
        let doing = "the changes of a service can't be listened to";
        let mut connection = self.link.listen().await?;
        let subscribed = timeout(self.link.timeout(), connection.subscribe(channel)).await;
        subscribed
            .map_err(|_| error::late(doing))?
            .map_err(|e| self.link.placed(error::redis(doing, e)))?;
        Ok(connection)
    }
}

/// Addresses and what each is, in turn. What can't be read is left out; if it is all of them, that is an error.
fn instances(values: impl Iterator<Item = Value>) -> Result<Vec<Instance>> {
    let mut texts = values.map(value::text);
    let (mut list, mut unread) = (Vec::new(), 0_usize);
    while let Some(address) = texts.next() {
        let what = texts.next().flatten().unwrap_or_default();
        let instance = address.and_then(|address| Instance::from_url(&address).ok());
        let Some(instance) = instance else {
            unread += 1;
            continue;
        };
        let (weight, health) = what.split_once(' ').unwrap_or((&what, ""));
        let weight = weight.parse().unwrap_or(1);
        list.push(instance.with_weight(weight).with_health(health != "down"));
    }
    if unread > 0 && list.is_empty() {
        let text = "the registry lists nothing that is an address";
        return Err(Error::unavailable("registry_unreadable", text).with("entries", unread));
    }
    if unread > 0 {
        tracing::warn!(unread, "a registry lists instances that can't be read");
    }
    Ok(list)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Where a watch is: what it listens to, and until when its list holds.
struct Watch {
    inner: Arc<Inner>,
    channel: String,
    notices: Option<PubSub>,
    holds: Duration,
}

impl Watch {
    async fn next(mut self) -> Result<Option<(Vec<Instance>, Self)>> {
        let notices = match &mut self.notices {
            Some(notices) => {
                let mut messages = notices.on_message();
                let is_lost = tokio::select! {
                    biased;
                    () = sleep(self.holds) => false,
                    notice = messages.next() => notice.is_none(),
                };
                // One look answers all that came meanwhile.
                while let Some(Some(_)) = messages.next().now_or_never() {}
                drop(messages);
                if is_lost {
                    let lost = "the connection to the registry was lost";
                    let lost = Error::unavailable("redis_unreachable", lost);
                    return Err(self.inner.link.placed(lost));
                }
                self.notices.take()
            }
            // Listening before looking, so that nothing falls between.
            None => Some(self.inner.listen(&self.channel).await?),
        };
        let (list, holds) = self.inner.list(&self.channel).await?;
        (self.notices, self.holds) = (notices, holds);
        Ok(Some((list, self)))
    }
}

impl Discovery for RedisRegistry {
    fn watch(&self, service: &str) -> BoxStream<'static, Result<Vec<Instance>>> {
        match self.0.channel(service) {
            Err(error) => stream::iter([Err(error)]).boxed(),
            Ok(channel) => {
                let watch = Watch {
                    inner: self.0.clone(),
                    channel,
                    notices: None,
                    holds: Duration::ZERO,
                };
                stream::try_unfold(watch, Watch::next).boxed()
            }
        }
    }
}

impl Registry for RedisRegistry {
    fn announce<'a>(
        &'a self,
        service: &'a str,
        instance: &'a Instance,
    ) -> BoxFuture<'a, Result<Duration>> {
        Box::pin(self.0.announce(service, instance))
    }

    fn withdraw<'a>(
        &'a self,
        service: &'a str,
        instance: &'a Instance,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.0.withdraw(service, instance))
    }
}

impl fmt::Debug for RedisRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisRegistry")
            .field("link", &self.0.link)
            .finish_non_exhaustive()
    }
}
