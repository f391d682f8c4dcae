//! What handlers give.

use axum::Json;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use trunkline_core::{Error, Result};

use crate::openapi::Operation;

/// An answer, ready for the wire but for the service's way to wrap it.
#[derive(Debug, Clone)]
pub struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) location: Option<String>,
    pub(crate) body: Option<Vec<u8>>,
}

/// Something that a handler gives.
pub trait Output: Send + 'static {
    /// Turns it into an answer.
    ///
    /// # Errors
    /// `Internal` when it can't be written as JSON.
    fn into_answer(self) -> Result<Answer>;

    /// Describes it for the OpenAPI document.
    fn describe(operation: &mut Operation);
}

/// 201, with the place of what was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created<T> {
    location: String,
    body: T,
}

impl<T> Created<T> {
    /// `body` was made and is found at `location`.
    pub fn at(location: impl Into<String>, body: T) -> Self {
        Self {
            location: location.into(),
            body,
        }
    }
}

/// 202, with the place where the outcome will be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted<T> {
    location: String,
    body: T,
}

impl<T> Accepted<T> {
    /// `body` says what was accepted, and `location` will say what became of it.
    pub fn at(location: impl Into<String>, body: T) -> Self {
        Self {
            location: location.into(),
            body,
        }
    }
}

/// 204.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoContent;

fn json<T: Serialize>(status: StatusCode, location: Option<String>, body: &T) -> Result<Answer> {
    let body = serde_json::to_vec(body).map_err(|error| {
        Error::internal("the answer can't be written as JSON").with_source(error)
    })?;
    Ok(Answer {
        status,
        location,
        body: Some(body),
    })
}

impl<T: Serialize + JsonSchema + Send + 'static> Output for Json<T> {
    fn into_answer(self) -> Result<Answer> {
        json(StatusCode::OK, None, &self.0)
    }

    fn describe(operation: &mut Operation) {
        operation.answer::<T>(StatusCode::OK, false);
    }
}

impl<T: Serialize + JsonSchema + Send + 'static> Output for Created<T> {
    fn into_answer(self) -> Result<Answer> {
        json(StatusCode::CREATED, Some(self.location), &self.body)
    }

    fn describe(operation: &mut Operation) {
        operation.answer::<T>(StatusCode::CREATED, true);
    }
}

impl<T: Serialize + JsonSchema + Send + 'static> Output for Accepted<T> {
    fn into_answer(self) -> Result<Answer> {
        json(StatusCode::ACCEPTED, Some(self.location), &self.body)
    }

    fn describe(operation: &mut Operation) {
        operation.answer::<T>(StatusCode::ACCEPTED, true);
    }
}

impl Output for NoContent {
    fn into_answer(self) -> Result<Answer> {
        Ok(Answer {
            status: StatusCode::NO_CONTENT,
            location: None,
            body: None,
        })
    }

    fn describe(operation: &mut Operation) {
        operation.no_answer(StatusCode::NO_CONTENT);
    }
}
