//! Finding the instances of a service: [`Discovery`], and where it looks.
//!
//! | URL | who knows | how a change is learnt |
//! |---|---|---|
//! | a list of addresses ([`Fixed`]) | the configuration | by the next start |
//! | `env:` ([`Fixed::from_variables`]) | environment variables | by the next start |
//! | `dns://`, `srv://` (`Dns`, feature `dns`) | a name server, Kubernetes' too | when the record's time to live is over |
//! | `consul://` ([`Consul`]) | a Consul agent | at once: a query that waits |
//! | `redis://` (the crate `trunkline-redis`) | a Redis server | at once: a notice |
//!
//! [`Network::discover`](crate::Network::discover) watches a service, keeps the last list that made sense, and
//! opens the watch again when it ends. What goes wrong is told by [`Network::places`](crate::Network::places), the
//! log and the metric `trunkline_discovery_failures_total`.

pub mod consul;
#[cfg(feature = "dns")]
pub mod dns;
mod fixed;
mod instance;
pub(crate) mod keeper;
mod register;
pub(crate) mod url;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::time::Duration;
use trunkline_core::{Error, Result};

pub use consul::Consul;
#[cfg(feature = "dns")]
pub use dns::Dns;
pub use fixed::Fixed;
pub(crate) use instance::clean;
pub use instance::{INSTANCES_MAX, Instance, WEIGHT_MAX};
pub use register::Registration;

/// Whoever knows where the instances of services are.
pub trait Discovery: Send + Sync + 'static {
    /// Watches a service: each item is the whole list of its instances as it is now. The first comes as soon as it
    /// is known, the next when something changed.
    ///
    /// # Guarantees
    /// The stream ends after an error and makes no other haste: whoever watches opens it again, after a pause that
    /// grows. An instance that can't be read is left out; a list of which nothing can be read is an error. Nothing is
    /// promised of order, of duplicates, or of two items being different.
    fn watch(&self, service: &str) -> BoxStream<'static, Result<Vec<Instance>>>;
}

/// Whoever can be told where an instance is. [`Registration`] keeps one told.
pub trait Registry: Send + Sync + 'static {
    /// Says that an instance is there and whether it is well, and gives when to say so again. It is forgotten some
    /// time after that was not done.
    fn announce<'a>(
        &'a self,
        service: &'a str,
        instance: &'a Instance,
    ) -> BoxFuture<'a, Result<Duration>>;

    /// Says that it is there no more. One that is not known is none: that is no error.
    fn withdraw<'a>(
        &'a self,
        service: &'a str,
        instance: &'a Instance,
    ) -> BoxFuture<'a, Result<()>>;
}

/// A heartbeat of 30 s: an instance that died is in no list any more after that.
pub const HEARTBEAT: Duration = Duration::from_secs(30);

/// How long what was announced holds: a heartbeat's end is when nobody may believe it any more, so this is shorter.
pub fn lease_of(heartbeat: Duration) -> Duration {
    heartbeat * 3 / 4
}

/// How often it is announced: a second time fits in before the lease is over when the first was lost.
pub fn renewal_of(heartbeat: Duration) -> Duration {
    heartbeat / 4
}

/// The list of what could be read. That nothing could be, where there was something, is an error.
pub(crate) fn readable(read: impl Iterator<Item = Result<Instance>>) -> Result<Vec<Instance>> {
    let mut list = Vec::new();
    let mut last_error = None;
    let mut unread = 0_usize;
    for one in read {
        match one {
            Ok(instance) => list.push(instance),
            Err(error) => {
                unread += 1;
                last_error = Some(error);
            }
        }
    }
    let Some(error) = last_error else {
        return Ok(list);
    };
    if list.is_empty() {
        return Err(unreadable().with("entries", unread).with_source(error));
    }
    tracing::warn!(unread, %error, "a registry lists instances that can't be read");
    Ok(list)
}

/// An answer that no registry of this kind gives.
#[cold]
pub(crate) fn unreadable() -> Error {
    Error::unavailable(
        "registry_unreadable",
        "the registry's answer is of another shape than expected",
    )
}
