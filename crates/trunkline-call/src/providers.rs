//! Choosing among providers of the same thing: who is well, what each would cost, and who is next when one fails.
//!
//! It knows nothing of HTTP: a provider is whatever the application calls, a [`Client`](crate::Client), a trait object
//! or a closure.
//!
//! ```
//! # use std::sync::Arc;
//! # use trunkline_call::providers::{Providers, ProvidersConfig};
//! # use trunkline_core::{Env, Result};
//! struct Bank { fee: u64 }
//!
//! # async fn run() -> Result<()> {
//! let banks = Providers::new("bank", ProvidersConfig::default(), Env::system());
//! banks.register("north", Arc::new(Bank { fee: 3 }))?;
//! banks.register("south", Arc::new(Bank { fee: 2 }))?;
//! let done = banks
//!     .run(
//!         |bank: Arc<Bank>| async move { Ok(bank.fee) },
//!         |fee| *fee,
//!         |bank, fee| async move { Ok(format!("sent for {fee} of {}", bank.fee)) },
//!     )
//!     .await?;
//! assert_eq!((&*done.provider, done.value.as_str()), ("south", "sent for 2 of 2"));
//! # Ok(()) }
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(run()).unwrap();
//! ```

mod health;
mod quote;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use trunkline_core::{ByteString, Env, Error, Result, Retry};
use trunkline_telemetry::Check;

use health::Entry;
pub use health::{ProviderEvent, ProviderHealth};
pub use quote::{Done, Quote};

/// More providers of one kind are not registered.
pub const PROVIDERS_MAX: usize = 256;
/// Events that a follower may fall behind before it misses some.
const EVENTS_MAX: usize = 256;

/// How providers are asked and when they are left out. A value that is not given has the default named with it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProvidersConfig {
    /// How long quotes are waited for: 2 s. Who has not answered by then is not asked further.
    pub quote_within: Duration,
    /// How long the work may take at one provider: 30 s.
    pub attempt_within: Duration,
    /// How many providers are tried, one after the other: 3.
    pub attempts_max: usize,
    /// How long a provider that failed is left out the first time: 1 s. It doubles with each failure.
    pub unwell_first: Duration,
    /// How long at most: 5 minutes.
    pub unwell_max: Duration,
    /// Whether the work may be done twice: then the next provider also gets what may have been done by one that
    /// failed. Not so by default: a transfer whose answer was lost is not sent again elsewhere.
    pub repeatable: bool,
}

impl Default for ProvidersConfig {
    fn default() -> Self {
        Self {
            quote_within: Duration::from_secs(2),
            attempt_within: Duration::from_secs(30),
            attempts_max: 3,
            unwell_first: Duration::from_secs(1),
            unwell_max: Duration::from_secs(300),
            repeatable: false,
        }
    }
}

/// The providers of one kind. Cheap to clone; clones share what is known.
///
/// # Guarantees
/// A provider that failed is asked nothing until its time is up; then a quote, which changes nothing, shows whether
/// it is back. An error that is the request's own fault (`Permanent`) marks nobody.
pub struct Providers<P: ?Sized>(Arc<Inner<P>>);

struct Inner<P: ?Sized> {
    kind: ByteString,
    config: ProvidersConfig,
    env: Env,
    entries: Mutex<Vec<Entry<P>>>,
    events: broadcast::Sender<ProviderEvent>,
}

impl<P: ?Sized + Send + Sync> Providers<P> {
    /// No providers yet.
    pub fn new(kind: impl Into<ByteString>, config: ProvidersConfig, env: Env) -> Self {
        Self(Arc::new(Inner {
            kind: kind.into(),
            config,
            env,
            entries: Mutex::default(),
            events: broadcast::Sender::new(EVENTS_MAX),
        }))
    }

    /// Adds a provider, well until it fails; or replaces the one of that name.
    ///
    /// # Errors
    /// `Overloaded` when there are [`PROVIDERS_MAX`].
    pub fn register(&self, name: impl Into<ByteString>, provider: Arc<P>) -> Result<()> {
        let entry = Entry::new(&self.0.kind, name.into(), provider);
        let mut entries = self.0.entries.lock();
        if let Some(old) = entries.iter_mut().find(|old| old.name == entry.name) {
            *old = entry;
        } else if entries.len() < PROVIDERS_MAX {
            entries.push(entry);
        } else {
            let text = "there are as many providers of this kind as are registered";
            let kind = trunkline_core::ErrorKind::Overloaded;
            return Err(Error::new(kind, "providers_too_many", text).with("max", PROVIDERS_MAX));
        }
        Ok(())
    }

    /// Takes a provider off; what it was given ends as it ends.
    pub fn remove(&self, name: &str) {
        self.0.entries.lock().retain(|entry| entry.name != name);
    }

    /// How each provider is, in the order in which they were registered.
    pub fn health(&self) -> Vec<ProviderHealth> {
        let now = Instant::now();
        let entries = self.0.entries.lock();
        entries.iter().map(|entry| entry.health(now)).collect()
    }

    /// What happens to them from now on. Who is too slow misses some, and is told so.
    pub fn events(&self) -> broadcast::Receiver<ProviderEvent> {
        self.0.events.subscribe()
    }

    /// Says that a provider failed, or that it is well, by what somebody else saw.
    pub fn report(&self, name: &str, is_well: bool) {
        let events = self.0.mark(name, is_well);
        self.0.tell(events);
    }

    /// Asks all that are not left out for a quote, side by side. What failed or came too late is not in the list, and
    /// who failed is left out for a while.
    pub async fn quotes<Q, F, W>(&self, ask: F) -> Vec<Quote<P, Q>>
    where
        F: Fn(Arc<P>) -> W,
        W: Future<Output = Result<Q>>,
    {
        let asked = self.0.available();
        let within = self.0.config.quote_within;
        let quotes = asked.into_iter().map(|(name, provider)| {
            let quote = timeout(within, ask(provider.clone()));
            async move {
                let quote = quote.await.unwrap_or_else(|_| Err(late(within)));
                match quote {
                    Ok(terms) => {
                        self.report(&name, true);
                        Some(Quote {
                            name,
                            provider,
                            terms,
                        })
                    }
                    Err(error) => {
                        self.0.failed(&name, &error);
                        None
                    }
                }
            }
        });
        join_all(quotes).await.into_iter().flatten().collect()
    }

    /// Has work done by the provider whose quote costs least, or the next best when that one fails.
    ///
    /// # Errors
    /// `Unavailable` (`Transient`) when nobody gives a quote; else what the last one that was tried said. An error
    /// after which the effect may have happened (`Unknown`) ends it, unless the work is `repeatable`.
    pub async fn run<Q, F, W, C, O, A, D, T>(&self, ask: F, cost: C, attempt: A) -> Result<Done<T>>
    where
        F: Fn(Arc<P>) -> W,
        W: Future<Output = Result<Q>>,
        C: Fn(&Q) -> O,
        O: PartialOrd,
        A: Fn(Arc<P>, Q) -> D,
        D: Future<Output = Result<T>>,
    {
        let mut quotes = self.quotes(ask).await;
        // A cost that can't be compared (NaN) is the worst there is.
        quotes.sort_by(|a, b| quote::order(&cost(&a.terms), &cost(&b.terms)));
        let mut last = None;
        let config = &self.0.config;
        for quote in quotes.into_iter().take(config.attempts_max.max(1)) {
            let Quote {
                name,
                provider,
                terms,
            } = quote;
            let done = timeout(config.attempt_within, attempt(provider, terms)).await;
            let error = match done.unwrap_or_else(|_| Err(late(config.attempt_within))) {
                Ok(value) => {
                    self.0.succeeded(&name);
                    return Ok(Done {
                        provider: name,
                        value,
                    });
                }
                Err(error) => error,
            };
            self.0.failed(&name, &error);
            let goes_on = match error.retry() {
                Retry::Transient => true,
                Retry::Unknown => config.repeatable,
                Retry::Permanent => false,
            };
            let error = error.with("provider", &name);
            if !goes_on {
                return Err(error);
            }
            self.0
                .tell(Some(ProviderEvent::FailedOver { provider: name }));
            last = Some(error);
        }
        Err(last.unwrap_or_else(|| self.none()))
    }

    /// Probes those whose time is up, until `stop` ends: so that they are back before somebody needs them.
    pub async fn probe<F, W>(&self, probe: F, stop: impl Future<Output = ()>)
    where
        F: Fn(Arc<P>) -> W,
        W: Future<Output = Result<()>>,
    {
        let probing = async {
            loop {
                let now = Instant::now();
                match self.0.next_probe() {
                    // Somebody may fail meanwhile who is due sooner.
                    None => sleep(self.0.config.unwell_first).await,
                    Some(due) if due > now => {
                        sleep_until(due.min(now + self.0.config.unwell_first)).await;
                    }
                    Some(_) => {
                        let due = self.0.due(now).into_iter().map(|(name, provider)| {
                            let probed = timeout(self.0.config.quote_within, probe(provider));
                            async move { self.report(&name, matches!(probed.await, Ok(Ok(())))) }
                        });
                        join_all(due).await;
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = stop => {}
            () = probing => {}
        }
    }

    #[cold]
    fn none(&self) -> Error {
        let text = "no provider can do it now";
        let registered = self.0.entries.lock().len();
        Error::unavailable("providers_unavailable", text)
            .with("kind", &self.0.kind)
            .with("registered", registered)
    }
}

#[cold]
fn late(within: Duration) -> Error {
    let kind = trunkline_core::ErrorKind::DeadlineExceeded;
    Error::new(kind, "provider_late", "the provider did not answer in time")
        .with("within", format!("{within:?}"))
}

/// Well while anybody would be asked now; the details name those that are left out.
impl<P: ?Sized + Send + Sync + 'static> Check for Providers<P> {
    fn check(&self) -> BoxFuture<'_, Result<()>> {
        let all = self.health();
        let asked = all.iter().any(|one| one.asked_again_in.is_none());
        Box::pin(ready(if asked { Ok(()) } else { Err(self.none()) }))
    }

    fn details(&self) -> BoxFuture<'_, Option<Value>> {
        let said = |one: &ProviderHealth| match one.asked_again_in {
            _ if one.is_well => "ok".to_owned(),
            None => format!("failed {} times, is asked next time", one.failures),
            Some(wait) => format!(
                "failed {} times, is left out for {} s",
                one.failures,
                wait.as_secs() + 1
            ),
        };
        let all = self.health();
        let all = all
            .iter()
            .map(|one| (one.name.to_string(), said(one).into()));
        Box::pin(ready(Some(Value::Object(all.collect()))))
    }
}

impl<P: ?Sized> Clone for Providers<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P: ?Sized> fmt::Debug for Providers<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.0.entries.lock();
        let names: Vec<_> = entries.iter().map(|entry| &entry.name).collect();
        f.debug_struct("Providers")
            .field("kind", &self.0.kind)
            .field("names", &names)
            .finish()
    }
}
