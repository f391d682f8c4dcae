//! Keys that somebody else publishes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::future::BoxFuture;
use jsonwebtoken::{Algorithm, Header};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use trunkline_core::{Env, Error, ErrorKind, Result, Timestamp, report};

use crate::error::forged;
use crate::keys::{self, KeySet};

/// Where a JWKS document comes from.
pub trait KeyPublisher: Send + Sync {
    /// The document, as it is now.
    fn fetch(&self) -> BoxFuture<'_, Result<Published>>;
}

/// A JWKS document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its text.
    pub document: String,
    /// How long it is taken as it is, if the publisher says so: at least `fetch_pause`, and at most `stale_max`.
    pub fresh_for: Option<Duration>,
}

impl From<String> for Published {
    fn from(document: String) -> Self {
        Self {
            document,
            fresh_for: None,
        }
    }
}

/// What the keys that are at hand make of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened<T> {
    /// What it says.
    Fresh(T),
    /// What it says, by keys that are to be fetched anew.
    Stale(T),
    /// Keys have to be fetched first.
    Unknown,
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
    fetching: Arc<tokio::sync::Mutex<()>>,
}

struct Known {
    keys: KeySet,
    at: Timestamp,
    fresh_for: Duration,
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
            fetching: Arc::default(),
        }))
    }

    /// What a token says, if one of the keys signed it, fetching them where they are not known. Neither its times nor for
    /// whom it was made are looked at: that is the caller's.
    ///
    /// # Errors
    /// `Unavailable` where no keys are known; `Unauthenticated` with the code `token_malformed` or `token_forged`.
    pub async fn open<T: DeserializeOwned>(&self, token: &str) -> Result<T> {
        let header = published(token)?;
        self.for_token(&header).await?.open(token, &header)
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// `Unauthenticated` with the code `token_malformed` or `token_forged`.
    pub fn open_known<T: DeserializeOwned>(&self, token: &str) -> Result<Opened<T>> {
        let header = published(token)?;
        match self.usable(&header) {
            None => Ok(Opened::Unknown),
            Some((keys, true)) => keys.open(token, &header).map(Opened::Fresh),
            Some((keys, false)) => keys.open(token, &header).map(Opened::Stale),
        }
    }

    /// Work that fetches the keys anew; none where that is done already, or was a moment ago.
    pub fn refreshing(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        if !self.may_fetch() {
            return None;
        }
        let turn = self.0.fetching.clone().try_lock_owned().ok()?;
        let keys = self.clone();
        Some(async move {
            keys.refresh().await;
            drop(turn);
        })
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
        let fresh = self.age(known.at) < known.fresh_for;
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

    fn may_fetch(&self) -> bool {
        let tried = *self.0.tried_at.lock();
        tried.is_none_or(|at| self.age(at) >= self.0.policy.fetch_pause)
    }

    /// Fetches the document, unless that was tried a moment ago.
    async fn refresh(&self) {
        if !self.may_fetch() {
            return;
        }
        let now = self.0.env.now();
        *self.0.tried_at.lock() = Some(now);
        match self.fetch().await {
            Ok((keys, fresh_for)) => self.0.known.store(Some(Arc::new(Known {
                keys,
                at: now,
                fresh_for,
            }))),
            Err(error) => {
                tracing::warn!(error = %report(&error), "published keys can't be fetched");
            }
        }
    }

    async fn fetch(&self) -> Result<(KeySet, Duration)> {
        let policy = &self.0.policy;
        let fetched = tokio::time::timeout(policy.fetch_within, self.0.publisher.fetch()).await;
        let Published {
            document,
            fresh_for,
        } = fetched.map_err(|_| {
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
        let longest = policy.stale_max.max(policy.fetch_pause);
        let fresh_for = fresh_for.map(|told| told.clamp(policy.fetch_pause, longest));
        let keys = KeySet::jwks(&document)?;
        Ok((keys, fresh_for.unwrap_or(policy.fresh_for)))
    }
}

/// The header of a token, if it names an algorithm that published keys are for.
fn published(token: &str) -> Result<Header> {
    let header = keys::header(token)?;
    match header.alg {
        Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA => Ok(header),
        _ => Err(forged("its algorithm is none of published keys")),
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
