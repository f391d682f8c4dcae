//! Who may ask.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::AUTHORIZATION;

use crate::Parts;
use crate::extract::Refused;

pub(crate) async fn check(State(parts): State<Parts>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(AUTHORIZATION);
    let shown = shown.and_then(|value| value.to_str().ok());
    match parts.token.as_ref().map(|token| token.check(shown)) {
        None | Some(Ok(())) => next.run(request).await,
        Some(Err(error)) => Refused(error).into_response(),
    }
}
