//! Requests with an `Idempotency-Key`: one effect and one answer, however often they come.

use std::time::Duration;

use axum::response::Response;
use futures::future::BoxFuture;
use http::header::{CONTENT_TYPE, HeaderName, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use trunkline_call::{Body, headers, problem};
use trunkline_core::{Error, ErrorKind, Result};
use trunkline_store::{Begin, Idempotency, StoredResponse, body_hash};
use uuid::Uuid;

use super::input::Incoming;
use super::output::Answer;
use super::route::wrapped;
use crate::Cx;
use crate::cx::Completion;

/// Says of an answer that it was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

type Call<'a> = &'a (dyn Fn(Cx, Incoming) -> BoxFuture<'static, Result<Answer>> + Send + Sync);

/// Runs the handler once for its key; a request without a key is refused.
pub(super) async fn run(
    cx: &Cx,
    path: &'static str,
    call: Call<'_>,
    incoming: Incoming,
) -> Result<Response> {
    let key = key_of(&incoming.parts.headers)?;
    // Two users who choose the same key do not meet.
    let user = cx.context().user_id.as_deref().unwrap_or("-").to_owned();
    let scope = format!("{path} {user}");
    let cx = &Cx::named(
        cx.runtime().clone(),
        cx.context().clone(),
        id_of(&scope, &key),
    );
    let keys = cx.runtime().store.idempotency();
    match keys.begin(&scope, &key, content_hash(&incoming)).await? {
        Begin::Replay(stored) => Ok(response(&stored, true)),
        Begin::Mismatch => Err(Error::invalid(
            "idempotency_key_reused",
            "this idempotency key was used with another body or path",
        )),
        Begin::Running => Err(Error::conflict(
            "idempotency_key_running",
            "a request with this idempotency key is still running",
        )
        .with_retry_after(Duration::from_secs(1))),
        Begin::Started => {
            let mut claim = Claim {
                keys,
                scope,
                key,
                open: true,
            };
            let done = work(cx, &claim, call, incoming).await;
            // From here on the key is answered or given back.
            claim.open = false;
            done
        }
    }
}

/// A key that was taken; dropped while open (the client went away, the time was up), it is given back.
struct Claim {
    keys: Idempotency,
    scope: String,
    key: String,
    open: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let (keys, scope, key) = (self.keys.clone(), self.scope.clone(), self.key.clone());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        // Short and bounded by the store's own limits; the key's lease is there if it does not come to pass.
        drop(runtime.spawn(async move {
            if let Err(error) = keys.abandon(&scope, &key).await {
                tracing::warn!(%error, "an idempotency key could not be given back");
            }
        }));
    }
}

async fn work(cx: &Cx, claim: &Claim, call: Call<'_>, incoming: Incoming) -> Result<Response> {
    let done = match call(cx.clone(), incoming).await {
        Ok(answer) => stored(cx, &answer),
        // A refusal is an answer too, and stays the same; what failed here may be tried again.
        Err(error) if is_final(&error) => {
            cx.undo().await;
            refusal(cx, &error).await
        }
        Err(error) => Err(error),
    };
    let done = match done {
        Ok(stored) => {
            let completion = Completion {
                scope: &claim.scope,
                key: &claim.key,
                response: &stored,
            };
            cx.finish(Some(completion)).await.map(|()| stored)
        }
        Err(error) => Err(error),
    };
    match done {
        Ok(stored) => Ok(response(&stored, false)),
        Err(error) => {
            cx.undo().await;
            if let Err(error) = claim.keys.abandon(&claim.scope, &claim.key).await {
                tracing::warn!(%error, "an idempotency key could not be given back");
            }
            Err(error)
        }
    }
}

/// What has to be the same for an answer to be the same: the path with its ids, the query and the body.
fn content_hash(incoming: &Incoming) -> [u8; 32] {
    let target = incoming.parts.uri.path_and_query();
    let target = target.map_or("/", |target| target.as_str());
    body_hash(&[target.as_bytes(), b"\n", &incoming.body].concat())
}

/// The id that goes with a key: nobody else's, and the same each time.
fn id_of(scope: &str, key: &str) -> Uuid {
    let hash = body_hash(format!("{scope}\n{key}").as_bytes());
    let mut bytes = [0; 16];
    bytes
        .iter_mut()
        .zip(hash)
        .for_each(|(into, byte)| *into = byte);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn is_final(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidInput | ErrorKind::NotFound | ErrorKind::TooLarge
    )
}

async fn refusal(cx: &Cx, error: &Error) -> Result<StoredResponse> {
    let refused = problem::response(error, Some(cx.context()));
    let (parts, body) = refused.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20)
        .await
        .map_err(|error| Error::internal("a problem has a body").with_source(error))?;
    let kind = (
        CONTENT_TYPE.to_string(),
        problem::CONTENT_TYPE_PROBLEM.to_owned(),
    );
    Ok(StoredResponse {
        status: parts.status.as_u16(),
        headers: vec![kind],
        body: body.to_vec(),
    })
}

fn key_of(headers: &HeaderMap) -> Result<String> {
    let bad = |text: &'static str| Error::invalid("idempotency_key_invalid", text);
    let key = headers
        .get(headers::IDEMPOTENCY_KEY)
        .ok_or_else(|| bad("expected the header Idempotency-Key, such as a UUID of your own"))?;
    let key = key
        .to_str()
        .map_err(|_| bad("expected the Idempotency-Key in visible ASCII"))?;
    if !(1..=255).contains(&key.len()) {
        return Err(bad("expected an Idempotency-Key of 1 to 255 characters"));
    }
    Ok(key.to_owned())
}

fn stored(cx: &Cx, answer: &Answer) -> Result<StoredResponse> {
    let mut headers = Vec::new();
    if answer.body.is_some() {
        headers.push((CONTENT_TYPE.to_string(), "application/json".to_owned()));
    }
    if let Some(location) = &answer.location {
        headers.push((LOCATION.to_string(), location.clone()));
    }
    Ok(StoredResponse {
        status: answer.status.as_u16(),
        headers,
        body: wrapped(answer, cx.runtime().responses).unwrap_or_default(),
    })
}

fn response(stored: &StoredResponse, replayed: bool) -> Response {
    let mut response = Response::new(Body::from(stored.body.clone()));
    *response.status_mut() =
        StatusCode::from_u16(stored.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in &stored.headers {
        let name = HeaderName::try_from(name.as_str());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value.as_str())) {
            response.headers_mut().insert(name, value);
        }
    }
    if replayed {
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}
