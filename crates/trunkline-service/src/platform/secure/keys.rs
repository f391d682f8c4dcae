//! The keys that verify tokens: published, and fetched from who publishes them.

use std::time::Duration;

use axum::routing::get;
use axum::{Json, Router};
use futures::future::BoxFuture;
use http::Request;
use http_body_util::{BodyExt as _, Limited};
use tower::ServiceExt as _;
use trunkline_call::{Body, Channel, Network, headers};
use trunkline_core::{ByteString, Error, Result};
use trunkline_security::{KeyPublisher, RemoteKeysPolicy, TokenKeys};

/// Where a service publishes them.
pub(in crate::platform) const JWKS_PATH: &str = "/.well-known/jwks.json";
/// A fetch has so long, in milliseconds.
const WITHIN_MS: u64 = 4_000;

/// Adds the keys of a service to its routes.
pub(in crate::platform) fn publish(router: Router, keys: Option<&TokenKeys>) -> Router {
    let Some(keys) = keys.cloned() else {
        return router;
    };
    router.route(JWKS_PATH, get(move || async move { Json(keys.jwks()) }))
}

/// How keys of others are kept. One that was just started has no key for a moment: it is asked again soon.
pub(super) fn policy() -> RemoteKeysPolicy {
    let mut policy = RemoteKeysPolicy::default();
    policy.fetch_pause = Duration::from_secs(1);
    policy
}

/// The keys of a service, at its own address.
pub(super) struct Published(Channel);

impl Published {
    pub(super) fn of(network: &Network, service: &ByteString, issuer: &ByteString) -> Self {
        Self(network.channel(service.clone(), issuer.clone()).bare())
    }

    async fn document(&self) -> Result<String> {
        let request = Request::get(JWKS_PATH).header(headers::DEADLINE_MS, WITHIN_MS);
        let request = request
            .body(Body::empty())
            .map_err(|error| Error::internal("a question is a request").with_source(error))?;
        let response = self.0.clone().oneshot(request).await?;
        let unreadable = |text: &'static str| {
            Error::unavailable("keys_unreadable", text).with("of", self.0.target())
        };
        if !response.status().is_success() {
            return Err(
                unreadable("a service does not tell its keys").with("status", response.status())
            );
        }
        let bytes_max = policy().document_bytes_max;
        let body = Limited::new(response.into_body(), bytes_max)
            .collect()
            .await;
        let body = body.map_err(|error| {
            unreadable("the keys of a service broke off, or are too long").with("why", error)
        })?;
        String::from_utf8(body.to_bytes().into())
            .map_err(|_| unreadable("expected the keys of a service in UTF-8"))
    }
}

impl KeyPublisher for Published {
    fn fetch(&self) -> BoxFuture<'_, Result<trunkline_security::Published>> {
        Box::pin(async { self.document().await.map(Into::into) })
    }
}
