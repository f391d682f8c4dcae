//! Who of the providers is well, and when one that failed is asked again.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};
use tokio::time::Instant;
use trunkline_core::{ByteString, Error, ErrorKind, Retry, report};

use super::Inner;

/// How a provider is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderHealth {
    /// Its name.
    pub name: ByteString,
    /// Whether it did what it was last asked for.
    pub is_well: bool,
    /// How often it failed since it was well.
    pub failures: u32,
    /// How long it is still left out; after that it is asked whether it is back.
    pub asked_again_in: Option<Duration>,
}

/// What happens to a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProviderEvent {
    /// It failed, and is left out for a while.
    Unwell {
        /// Its name.
        provider: ByteString,
        /// How often it failed since it was well.
        failures: u32,
        /// For how long it is left out.
        left_out: Duration,
    },
    /// It failed before and is well again.
    Well {
        /// Its name.
        provider: ByteString,
    },
    /// It failed at its work, which the next best gets.
    FailedOver {
        /// Its name.
        provider: ByteString,
    },
}

pub(super) struct Entry<P: ?Sized> {
    pub(super) name: ByteString,
    provider: Arc<P>,
    failures: u32,
    /// Until when it is left out, if it is not well.
    until: Option<Instant>,
    well: Gauge,
    done: Counter,
    failed: Counter,
}

impl<P: ?Sized> Entry<P> {
    pub(super) fn new(kind: &ByteString, name: ByteString, provider: Arc<P>) -> Self {
        let labels = [("kind", kind.to_string()), ("provider", name.to_string())];
        let outcome = |outcome: &'static str| {
            let outcome = [("outcome", outcome.to_owned())];
            let all: Vec<_> = labels.iter().cloned().chain(outcome).collect();
            counter!("trunkline_provider_calls_total", &all)
        };
        let (done, failed) = (outcome("done"), outcome("failed"));
        let well = gauge!("trunkline_provider_well", &labels);
        well.set(1.0);
        Self {
            name,
            provider,
            failures: 0,
            until: None,
            well,
            done,
            failed,
        }
    }

    pub(super) fn health(&self, now: Instant) -> ProviderHealth {
        let left = self.until.map(|until| until.saturating_duration_since(now));
        ProviderHealth {
            name: self.name.clone(),
            is_well: self.until.is_none(),
            failures: self.failures,
            asked_again_in: left.filter(|left| !left.is_zero()),
        }
    }

    fn may_be_asked(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    fn named(&self) -> (ByteString, Arc<P>) {
        (self.name.clone(), self.provider.clone())
    }
}

impl<P: ?Sized> Inner<P> {
    /// Those that are well, and those whose time is up. Of the latter each is asked by one caller at a time: for the
    /// others its time begins anew.
    pub(super) fn available(&self) -> Vec<(ByteString, Arc<P>)> {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        let asked = entries.iter_mut().filter(|entry| entry.may_be_asked(now));
        asked
            .map(|entry| {
                self.claim(entry, now);
                entry.named()
            })
            .collect()
    }

    /// Those that are not well and whose time is up.
    pub(super) fn due(&self, now: Instant) -> Vec<(ByteString, Arc<P>)> {
        let mut entries = self.entries.lock();
        let due = entries
            .iter_mut()
            .filter(|entry| entry.until.is_some() && entry.may_be_asked(now));
        due.map(|entry| {
            self.claim(entry, now);
            entry.named()
        })
        .collect()
    }

    fn claim(&self, entry: &mut Entry<P>, now: Instant) {
        if entry.until.is_some() {
            entry.until = Some(now + self.config.quote_within);
        }
    }

    /// When the first of those that are not well is asked again.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        let entries = self.entries.lock();
        entries.iter().filter_map(|entry| entry.until).min()
    }

    pub(super) fn succeeded(&self, name: &str) {
        if let Some(entry) = self.entries.lock().iter().find(|entry| entry.name == name) {
            entry.done.increment(1);
        }
        let event = self.mark(name, true);
        self.tell(event);
    }

    /// Takes a failure in. A provider that says what is wrong with the request is well.
    pub(super) fn failed(&self, name: &str, error: &Error) {
        if let Some(entry) = self.entries.lock().iter().find(|entry| entry.name == name) {
            entry.failed.increment(1);
        }
        let is_to_blame = error.retry() != Retry::Permanent
            || matches!(
                error.kind(),
                ErrorKind::Unauthenticated | ErrorKind::PermissionDenied | ErrorKind::Corrupt
            );
        let event = self.mark(name, !is_to_blame);
        if let Some(ProviderEvent::Unwell { left_out, .. }) = &event {
            tracing::warn!(
                kind = %self.kind, provider = %name, error = %report(error), ?left_out,
                "a provider failed and is left out for a while"
            );
        }
        self.tell(event);
    }

    /// Marks a provider, and says what changed.
    pub(super) fn mark(&self, name: &str, is_well: bool) -> Option<ProviderEvent> {
        let mut entries = self.entries.lock();
        let entry = entries.iter_mut().find(|entry| entry.name == name)?;
        let provider = entry.name.clone();
        entry.well.set(f64::from(u8::from(is_well)));
        if is_well {
            entry.failures = 0;
            return entry.until.take().map(|_| ProviderEvent::Well { provider });
        }
        let whole = self
            .config
            .unwell_first
            .saturating_mul(1 << entry.failures.min(16));
        entry.failures = entry.failures.saturating_add(1);
        // Those that failed together are not asked together.
        let chance = 1.0 + self.env.random_f64() / 10.0;
        let left_out = whole.min(self.config.unwell_max).mul_f64(chance);
        entry.until = Some(Instant::now() + left_out);
        Some(ProviderEvent::Unwell {
            provider,
            failures: entry.failures,
            left_out,
        })
    }

    pub(super) fn tell(&self, event: Option<ProviderEvent>) {
        if let Some(event) = event {
            // Nobody has to listen.
            drop(self.events.send(event));
        }
    }
}
