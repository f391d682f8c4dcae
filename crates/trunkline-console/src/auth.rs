//! Who may ask.

use std::fmt;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::AUTHORIZATION;
use trunkline_core::{Error, ErrorKind};

use crate::Parts;
use crate::extract::Refused;

/// The token that the admin API asks for; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl AdminToken {
    /// A token of at least 16 bytes, so that it can't be guessed over the network.
    ///
    /// # Errors
    /// `InvalidInput` for a shorter one.
    pub fn new(token: impl Into<String>) -> Result<Self, Error> {
        let token = token.into();
        if token.len() < 16 {
            return Err(Error::invalid(
                "admin_token_short",
                "expected an admin token of at least 16 bytes",
            ));
        }
        Ok(Self(token))
    }

    /// As a request carries it.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Compares in a time that does not depend on where they differ.
    fn matches(&self, given: &str) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), given.as_bytes());
        let differing = ours
            .iter()
            .zip(theirs)
            .fold(0, |seen, (a, b)| seen | (a ^ b));
        ours.len() == theirs.len() && differing == 0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(***)")
    }
}

pub(crate) async fn check(State(parts): State<Parts>, request: Request, next: Next) -> Response {
    let Some(token) = &parts.token else {
        return next.run(request).await;
    };
    let given = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    match given.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(given) if token.matches(given) => next.run(request).await,
        Some(_) => refuse("admin_token_wrong", "the admin token is wrong"),
        None => refuse(
            "admin_token_missing",
            "expected `Authorization: Bearer <admin token>`",
        ),
    }
}

fn refuse(code: &'static str, message: &'static str) -> Response {
    Refused(Error::new(ErrorKind::Unauthenticated, code, message)).into_response()
}
