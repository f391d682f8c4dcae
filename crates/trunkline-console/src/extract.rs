//! Input that is checked, and refusals that say what was expected.

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use serde::de::DeserializeOwned;
use trunkline_core::Error;

/// A problem as a response.
pub(crate) struct Refused(pub(crate) Error);

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        trunkline_call::Problem(self.0).into_response()
    }
}

pub(crate) type Answer<T> = Result<T, Refused>;

/// The query string, every parameter known and of its type.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => Err(Refused(Error::invalid(
                "query_invalid",
                rejection.body_text(),
            ))),
        }
    }
}

/// A JSON body; an empty one is an empty object.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let bytes = bytes::Bytes::from_request(request, state)
            .await
            .map_err(|rejection| Error::invalid("body_unreadable", rejection.body_text()))?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        let body = serde_json::from_slice(text).map_err(|error| {
            Error::invalid(
                "body_invalid",
                format!("the JSON body was not understood: {error}"),
            )
        })?;
        Ok(Self(body))
    }
}
