//! Connections, by the protocol of Engine.IO: over WebSocket, or over polling and then perhaps over WebSocket.
//!
//! | request | answer |
//! |---|---|
//! | `GET /socket.io/?EIO=4&transport=polling` | a new connection's `0{"sid", …}` |
//! | `GET …&sid=ID` | waits for packets |
//! | `POST …&sid=ID` | takes packets, `ok` |
//! | `GET …?EIO=4&transport=websocket` with an upgrade | a new connection, or with `sid` the same by other means |

pub(crate) mod link;
pub(crate) mod packet;
mod plain;
mod polling;
mod websocket;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use http::{Method, Request, StatusCode, header};
use serde_json::json;

use crate::realtime::Inner;
use link::Link;

pub(crate) fn router(inner: Arc<Inner>) -> Router {
    let mut router = Router::new()
        .route("/socket.io", any(answer))
        .route("/socket.io/", any(answer));
    for space in inner.spaces() {
        let name = space.name.clone();
        if let Some(path) = &space.plain_at {
            let take = async move |State(inner): State<Arc<Inner>>, request: Request<Body>| {
                plain::take(&inner, name.clone(), request).unwrap_or_else(Refusal::answer)
            };
            router = router.route(path, get(take));
        }
    }
    router.with_state(inner)
}

/// What is wrong with a request, by the numbers of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    TransportUnknown,
    SessionUnknown,
    BadMethod,
    BadRequest,
    VersionUnsupported,
    Full,
}

impl Refusal {
    pub(crate) fn answer(self) -> Response {
        let (code, text, status) = match self {
            Self::TransportUnknown => (0, "Transport unknown", StatusCode::BAD_REQUEST),
            Self::SessionUnknown => (1, "Session ID unknown", StatusCode::BAD_REQUEST),
            Self::BadMethod => (2, "Bad handshake method", StatusCode::BAD_REQUEST),
            Self::BadRequest => (3, "Bad request", StatusCode::BAD_REQUEST),
            Self::VersionUnsupported => {
                (5, "Unsupported protocol version", StatusCode::BAD_REQUEST)
            }
            Self::Full => (4, "Too many clients", StatusCode::SERVICE_UNAVAILABLE),
        };
        let body = json!({ "code": code, "message": text }).to_string();
        (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// What the query says.
#[derive(Debug, Default)]
struct Query {
    version: String,
    transport: String,
    id: Option<String>,
}

impl Query {
    fn of(request: &Request<Body>) -> Self {
        let mut query = Self::default();
        let text = request.uri().query().unwrap_or_default();
        for (key, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*key {
                "EIO" => query.version = value.into_owned(),
                "transport" => query.transport = value.into_owned(),
                "sid" => query.id = Some(value.into_owned()),
                _ => {}
            }
        }
        query
    }
}

async fn answer(State(inner): State<Arc<Inner>>, request: Request<Body>) -> Response {
    let query = Query::of(&request);
    let taken = Box::pin(take(inner, query, request)).await;
    taken.unwrap_or_else(Refusal::answer)
}

async fn take(
    inner: Arc<Inner>,
    query: Query,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    if query.version != "4" {
        return Err(Refusal::VersionUnsupported);
    }
    let link = match &query.id {
        Some(id) => Some(inner.link(id).ok_or(Refusal::SessionUnknown)?),
        None => None,
    };
    match (&*query.transport, request.method(), link) {
        ("websocket", &Method::GET, link) => websocket::take(&inner, link, request),
        ("polling", &Method::GET, None) => polling::begin(&inner, &request),
        ("polling", &Method::GET, Some(link)) => polling::wait(link).await,
        ("polling", &Method::POST, Some(link)) => polling::post(link, request).await,
        ("polling" | "websocket", _, None) => Err(Refusal::BadMethod),
        ("polling" | "websocket", _, _) => Err(Refusal::BadRequest),
        _ => Err(Refusal::TransportUnknown),
    }
}

/// A new connection of whoever sent this request.
fn connect(inner: &Arc<Inner>, request: &Request<Body>) -> Result<Arc<Link>, Refusal> {
    if inner.stop.is_cancelled() {
        return Err(Refusal::Full);
    }
    let link = Link::new(inner.clone(), request.headers().clone());
    match inner.keep(&link) {
        true => Ok(link),
        false => Err(Refusal::Full),
    }
}
