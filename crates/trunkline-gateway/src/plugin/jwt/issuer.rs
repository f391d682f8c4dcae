//! An issuer of tokens that publishes its keys.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::header::CACHE_CONTROL;
use trunkline_core::{Error, Result};
use trunkline_security::{Claims, KeyPublisher, Opened, Published, RemoteKeys, RemoteKeysPolicy};

use super::Settings;
use crate::outside::Outside;
use crate::plugin::{Making, Mistake, mistake};
use crate::workers::Workers;

/// The most bytes of a document of keys.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// A connection to the issuer that was not used for longer is not used again.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// # Guarantees
/// A request waits for keys only where those at hand can't verify its token: at first, and for a key id that is not known,
/// for which they are fetched at most once in `rediscovery_lifetime`, by one request for all. Keys that are not fresh
/// any more serve while new ones are fetched, and for a day while the issuer is away.
#[derive(Debug)]
pub(super) struct Issuer {
    keys: RemoteKeys,
    workers: Workers,
}

struct Place(Outside);

impl Issuer {
    pub(super) fn new(
        uri: &str,
        settings: &Settings,
        making: &Making<'_>,
    ) -> Result<Self, Mistake> {
        for (name, value) in [
            ("timeout", settings.timeout),
            ("rediscovery_lifetime", settings.rediscovery_lifetime),
            ("cache_ttl", settings.cache_ttl),
        ] {
            if value == 0 {
                return Err(mistake(name, "expected a number above 0"));
            }
        }
        let mut policy = RemoteKeysPolicy::default();
        policy.fetch_within = Duration::from_millis(settings.timeout.into());
        policy.fetch_pause = Duration::from_secs(settings.rediscovery_lifetime.into());
        policy.fresh_for = Duration::from_secs(settings.cache_ttl.into());
        policy.document_bytes_max = DOCUMENT_BYTES_MAX;
        let outside = Outside::new(uri, policy.fetch_within, IDLE_MAX)
            .map_err(|expected| mistake("jwks_uri", expected))?;
        let publisher = Arc::new(Place(outside));
        Ok(Self {
            keys: RemoteKeys::new(publisher, policy, making.env.clone()),
            workers: making.workers.clone(),
        })
    }

    /// What a token says by the keys at hand; none where they have to be fetched.
    pub(super) fn known(&self, token: &str) -> Result<Option<Claims>> {
        match self.keys.open_known(token)? {
            Opened::Fresh(claims) => Ok(Some(claims)),
            Opened::Stale(claims) => {
                if let Some(refreshing) = self.keys.refreshing() {
                    self.workers.spawn(refreshing);
                }
                Ok(Some(claims))
            }
            Opened::Unknown => Ok(None),
        }
    }

    /// The same, fetching them.
    pub(super) async fn fetched(&self, token: &str) -> Result<Claims> {
        self.keys.open(token).await
    }
}

impl KeyPublisher for Place {
    fn fetch(&self) -> BoxFuture<'_, Result<Published>> {
        Box::pin(async {
            let response = self.0.get(DOCUMENT_BYTES_MAX).await?;
            let (head, body) = response.into_parts();
            let document = String::from_utf8(body.into())
                .map_err(|_| Error::invalid("keys_unreadable", "expected keys in UTF-8"))?;
            let told = head.headers.get(CACHE_CONTROL);
            let told = told.and_then(|value| value.to_str().ok()).and_then(max_age);
            Ok(Published {
                document,
                fresh_for: told,
            })
        })
    }
}

/// How long an answer is fresh by its `Cache-Control` (RFC 9111, 5.2.2).
fn max_age(directives: &str) -> Option<Duration> {
    let mut directives = directives.split(',').map(str::trim);
    directives.find_map(|directive| {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match &*name.to_ascii_lowercase() {
            "no-store" | "no-cache" => Some(Duration::ZERO),
            "max-age" => value
                .trim_matches('"')
                .parse()
                .ok()
                .map(Duration::from_secs),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_keys_are_fresh_is_the_issuers_to_say() {
        let seconds = |text| max_age(text).map(|age| age.as_secs());
        assert_eq!(seconds("public, max-age=60"), Some(60));
        assert_eq!(seconds("Max-Age=\"7\""), Some(7));
        assert_eq!(seconds("no-cache, max-age=60"), Some(0));
        assert_eq!(seconds("private"), None);
        assert_eq!(seconds("max-age=soon"), None);
    }
}
