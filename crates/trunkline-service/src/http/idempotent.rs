//! Requests with an `Idempotency-Key`: one effect and one answer, however often they come.

use std::time::Duration;

use axum::response::Response;
use futures::future::BoxFuture;
use http::header::{CONTENT_TYPE, HeaderName, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use trunkline_call::{Body, headers, problem};
use trunkline_core::{Error, ErrorKind, Result};
use trunkline_store::{Begin, Idempotency, StoredResponse, body_hash};

use super::input::Incoming;
use super::output::Answer;
use super::route::wrapped;
use crate::Cx;
use crate::cx::Completion;

/// Says of an answer that it was given before.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

type Call<'a> = &'a (dyn Fn(Cx, Incoming) -> BoxFuture<'static, Result<Answer>> + Send + Sync);

/// Runs the handler once for its key; a request without a key is refused.
pub(super) async fn run(
    cx: &Cx,
    path: &'static str,
    call: Call<'_>,
    incoming: Incoming,
) -> Result<Response> {
    let key = key_of(&incoming.parts.headers)?;
    let cx = &named(cx, path, &key);
    match begin(cx, path, key, content_hash(&incoming)).await? {
        Begun::Replay(stored) => Ok(response(&stored, true)),
        Begun::Claim(claim) => work(cx, claim, call, incoming).await,
    }
}

/// The same work before anything is done, with an id for what it makes that goes with its key: nobody else's, and the same
/// each time.
pub(crate) fn named(cx: &Cx, operation: &str, key: &str) -> Cx {
    let hash = body_hash(format!("{}\n{key}", scope_of(cx, operation)).as_bytes());
    let mut id = [0; 16];
    id.iter_mut()
        .zip(hash)
        .for_each(|(into, byte)| *into = byte);
    let id = uuid::Builder::from_custom_bytes(id).into_uuid();
    Cx::named(cx.runtime().clone(), cx.context().clone(), id)
}

/// Two users who choose the same key do not meet.
fn scope_of(cx: &Cx, operation: &str) -> String {
    let user = cx.context().user_id.as_deref().unwrap_or("-");
    format!("{operation} {user}")
}

/// What a key came to.
pub(crate) enum Begun {
    /// It was answered before.
    Replay(StoredResponse),
    /// The work is to be done.
    Claim(Claim),
}

/// Takes a key for an operation.
pub(crate) async fn begin(
    cx: &Cx,
    operation: &str,
    key: String,
    content: [u8; 32],
) -> Result<Begun> {
    let scope = scope_of(cx, operation);
    let keys = cx.runtime().store.idempotency();
    match keys.begin(&scope, &key, content).await? {
        Begin::Replay(stored) => Ok(Begun::Replay(stored)),
        Begin::Mismatch => Err(Error::invalid(
            "idempotency_key_reused",
            "this idempotency key was used with another body or path",
        )),
        Begin::Running => Err(Error::conflict(
            "idempotency_key_running",
            "a request with this idempotency key is still running",
        )
        .with_retry_after(Duration::from_secs(1))),
        Begin::Started => Ok(Begun::Claim(Claim {
            keys,
            scope,
            key,
            open: true,
        })),
    }
}

/// A key that was taken; dropped while open (the client went away, the time was up), it is given back.
pub(crate) struct Claim {
    keys: Idempotency,
    scope: String,
    key: String,
    open: bool,
}

impl Claim {
    /// Makes the work take effect together with its answer; fails without an effect.
    pub(crate) async fn complete(&mut self, cx: &Cx, answer: &StoredResponse) -> Result<()> {
        let completion = Completion {
            scope: &self.scope,
            key: &self.key,
            response: answer,
        };
        cx.finish(Some(completion)).await?;
        self.open = false;
        Ok(())
    }

    /// Undoes the work; the next request may try.
    pub(crate) async fn give_back(mut self, cx: &Cx) {
        cx.undo().await;
        if let Err(error) = self.keys.abandon(&self.scope, &self.key).await {
            tracing::warn!(%error, "an idempotency key could not be given back");
        }
        self.open = false;
    }
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

async fn work(cx: &Cx, mut claim: Claim, call: Call<'_>, incoming: Incoming) -> Result<Response> {
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
        Ok(stored) => claim.complete(cx, &stored).await.map(|()| stored),
        Err(error) => Err(error),
    };
    match done {
        Ok(stored) => Ok(response(&stored, false)),
        Err(error) => {
            claim.give_back(cx).await;
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
    let key = headers
        .get(headers::IDEMPOTENCY_KEY)
        .ok_or_else(|| bad("expected the header Idempotency-Key, such as a UUID of your own"))?;
    checked(key)
}

fn bad(text: &'static str) -> Error {
    Error::invalid("idempotency_key_invalid", text)
}

/// A key of a form that can be kept.
pub(crate) fn checked(key: &HeaderValue) -> Result<String> {
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
