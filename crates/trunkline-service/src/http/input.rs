//! What handlers take: the path, the query, a JSON body.

use std::future::Future;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use trunkline_core::{Error, Result};

use crate::openapi::Operation;

/// A request, its body read to the end.
#[derive(Debug)]
pub struct Incoming {
    pub(crate) parts: Parts,
    pub(crate) body: Bytes,
}

/// Something that a handler takes.
pub trait Input: Sized + Send + 'static {
    /// Reads it from the request.
    fn read(from: &mut Incoming) -> impl Future<Output = Result<Self>> + Send;

    /// Describes it for the OpenAPI document.
    fn describe(operation: &mut Operation);
}

impl<T: DeserializeOwned + Send + 'static> Input for Path<T> {
    async fn read(from: &mut Incoming) -> Result<Self> {
        Self::from_request_parts(&mut from.parts, &())
            .await
            .map_err(|rejection: PathRejection| {
                Error::invalid(
                    "path_invalid",
                    format!("the path: {}", rejection.body_text()),
                )
            })
    }

    // The route's template names the parameters.
    fn describe(_: &mut Operation) {}
}

impl<T: DeserializeOwned + JsonSchema + Send + 'static> Input for Query<T> {
    async fn read(from: &mut Incoming) -> Result<Self> {
        Self::try_from_uri(&from.parts.uri).map_err(|rejection| {
            Error::invalid(
                "query_invalid",
                format!("the query: {}", rejection.body_text()),
            )
        })
    }

    fn describe(operation: &mut Operation) {
        operation.query::<T>();
    }
}

impl<T: DeserializeOwned + JsonSchema + Send + 'static> Input for Json<T> {
    async fn read(from: &mut Incoming) -> Result<Self> {
        let kind = from
            .parts
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        if !kind.is_some_and(is_json) {
            return Err(Error::invalid(
                "content_type_unsupported",
                "expected a body of content-type application/json",
            )
            .with("found", kind.unwrap_or("none")));
        }
        read_json(&from.body).map(Json)
    }

    fn describe(operation: &mut Operation) {
        operation.body::<T>();
    }
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
}

/// Reads JSON; tells what is no JSON at all from what is JSON of another shape, and where.
fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut reader);
    let value = read.map_err(|error| {
        let at = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_data() {
            let text = format!("the body is not as expected: {inner}");
            Error::invalid("body_mismatch", text).with("field", at)
        } else {
            malformed(&inner)
        }
    })?;
    reader.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

fn malformed(error: &serde_json::Error) -> Error {
    Error::invalid(
        "json_malformed",
        format!("the body is not valid JSON: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Line {
        #[expect(dead_code, reason = "only read")]
        quantity: u32,
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let bad = |text: &str| read_json::<Vec<Line>>(text.as_bytes()).unwrap_err();
        let error = bad(r#"[{"quantity": 1}, {"quantity": -2}]"#);
        assert_eq!(error.code(), "body_mismatch");
        assert!(error.to_string().contains("[1].quantity"), "{error}");
        assert_eq!(bad("[{").code(), "json_malformed");
        assert_eq!(bad("[] x").code(), "json_malformed");
        assert_eq!(bad("").code(), "json_malformed");
    }
}
