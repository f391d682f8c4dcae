//! Keys that somebody else publishes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::future::BoxFuture;
use jsonwebtoken::Header;
use parking_lot::Mutex;
use trunkline_core::{Env, Error, ErrorKind, Result, Timestamp, report};

use crate::error::forged;
use crate::keys::KeySet;

/// Where a JWKS document comes from.
pub trait KeyPublisher: Send + Sync {
    /// The document, as it is now.
    fn fetch(&self) -> BoxFuture<'_, Result<String>>;
}

/// How keys of others are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteKeysPolicy {
    /// How long a document is taken as it is: 5 minutes.
    pub fresh_for: Duration,
    /// The least time between two fetches, whatever tokens name: 10 s.
    pub fetch_pause: Duration,
    /// How long a fetch may take: 5 s.
    pub fetch_within: Duration,
    /// How long the last known keys are taken while the publisher is away: 24 hours.
    pub stale_max: Duration,
    /// The largest document: 64 KiB.
    pub document_bytes_max: usize,
}

impl Default for RemoteKeysPolicy {
    fn default() -> Self {
        Self {
            fresh_for: Duration::from_secs(300),
            fetch_pause: Duration::from_secs(10),
            fetch_within: Duration::from_secs(5),
            stale_max: Duration::from_secs(24 * 3600),
            document_bytes_max: 64 * 1024,
        }
    }
}

/// Keys that somebody else publishes, kept for a while. Cheap to clone.
///
/// # Guarantees
/// A key that is not known is asked for at once, but never more often than once in `fetch_pause`: tokens with made-up
/// key ids cost the publisher nothing. While the publisher is away or sends nonsense, the last known keys are taken
/// for up to `stale_max`. One fetch at a time; who has a key that will do does not wait for it.
#[derive(Clone)]
pub struct RemoteKeys(Arc<Inner>);

struct Inner {
    publisher: Arc<dyn KeyPublisher>,
    policy: RemoteKeysPolicy,
    env: Env,
    known: ArcSwapOption<Known>,
    tried_at: Mutex<Option<Timestamp>>,
    fetching: tokio::sync::Mutex<()>,
}

struct Known {
    keys: KeySet,
    at: Timestamp,
}

impl RemoteKeys {
    /// The keys of this publisher; nothing is fetched before a key is needed.
    pub fn new(publisher: Arc<dyn KeyPublisher>, policy: RemoteKeysPolicy, env: Env) -> Self {
        Self(Arc::new(Inner {
            publisher,
            policy,
            env,
            known: ArcSwapOption::empty(),
            tried_at: Mutex::new(None),
            fetching: tokio::sync::Mutex::new(()),
        }))
    }

    /// Keys of which one may have signed a token with this header.
    ///
    /// # Errors
    /// `Unavailable` where no keys are known; `Unauthenticated` where those that are known don't fit.
    pub(crate) async fn for_token(&self, header: &Header) -> Result<KeySet> {
        let usable = self.usable(header);
        if let Some((keys, true)) = &usable {
            return Ok(keys.clone());
        }
        let turn = match &usable {
            // Another fetches already, and a key is there.
            Some((keys, false)) => match self.0.fetching.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Ok(keys.clone()),
            },
            _ => self.0.fetching.lock().await,
        };
        // It may have come while this one waited.
        if !matches!(self.usable(header), Some((_, true))) {
            self.refresh().await;
        }
        drop(turn);
        match self.usable(header) {
            Some((keys, _)) => Ok(keys),
            None if self.known().is_some() => Err(forged("it names a key that nobody published")),
            None => Err(away()),
        }
    }

    /// The keys that are known, if one of them fits, and whether they are fresh.
    fn usable(&self, header: &Header) -> Option<(KeySet, bool)> {
        let known = self.known()?;
        let fresh = self.age(known.at) < self.0.policy.fresh_for;
        known
            .keys
            .may_verify(header)
            .then(|| (known.keys.clone(), fresh))
    }

    /// What is known and not too old.
    fn known(&self) -> Option<Arc<Known>> {
        let known = self.0.known.load_full()?;
        (self.age(known.at) < self.0.policy.stale_max).then_some(known)
    }

    fn age(&self, at: Timestamp) -> Duration {
        Duration::try_from(self.0.env.now().duration_since(at)).unwrap_or(Duration::ZERO)
    }

    /// Fetches the document, unless that was tried a moment ago.
    async fn refresh(&self) {
        let now = self.0.env.now();
        let tried = self.0.tried_at.lock().replace(now);
        if let Some(at) = tried
            && self.age(at) < self.0.policy.fetch_pause
        {
            *self.0.tried_at.lock() = tried;
            return;
        }
        match self.fetch().await {
            Ok(keys) => self.0.known.store(Some(Arc::new(Known { keys, at: now }))),
            Err(error) => {
                tracing::warn!(error = %report(&error), "published keys can't be fetched");
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet> {
        let policy = &self.0.policy;
        let fetched = tokio::time::timeout(policy.fetch_within, self.0.publisher.fetch()).await;
        let document = fetched.map_err(|_| {
            Error::new(
                ErrorKind::DeadlineExceeded,
                "keys_timeout",
                "the publisher of the keys did not answer in time",
            )
        })??;
        if document.len() > policy.document_bytes_max {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "keys_too_large",
                "the published document is too large",
            )
            .with("bytes_max", policy.document_bytes_max)
            .with("found", document.len()));
        }
        KeySet::jwks(&document)
    }
}

fn away() -> Error {
    Error::unavailable(
        "keys_unavailable",
        "the keys that verify this token can't be had from their publisher",
    )
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKeys")
            .field("policy", &self.0.policy)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
