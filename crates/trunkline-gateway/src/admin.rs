//! The admin API: Kong's paths and entities, written without a database.
//!
//! A change is made to a document, which is the Kong file as entities. The gateway takes the whole of it or nothing, and
//! then the file is written, if it is to be.

mod document;
mod form;
mod keeper;
mod kinds;
mod render;
mod routes;

use axum::Router;
use axum::middleware::{Next, from_fn};
use http::header::AUTHORIZATION;
use trunkline_security::AdminToken;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use document::Document;
pub use keeper::Keeper;

use crate::problem;

impl Keeper {
    /// The admin API, and what is beside it, for whoever shows the token; for anybody who can connect, without one.
    ///
    /// # Shape
    /// Kong's: `GET /services`, `POST /services/{name or id}/routes`, `PATCH`, `PUT`, `DELETE`, with JSON or forms; `GET` and
    /// `POST /config` for the whole; `GET /status`. Errors are problems (RFC 9457).
    pub fn router(&self, beside: Router, token: Option<AdminToken>) -> Router {
        let router = routes::router(self.clone()).merge(beside);
        let Some(token) = token else {
            return router;
        };
        let env = self.env().clone();
        router.layer(from_fn(
            move |request: axum::extract::Request, next: Next| {
                let shown = request.headers().get(AUTHORIZATION);
                let checked = token.check(shown.and_then(|shown| shown.to_str().ok()));
                let refused = checked.err().map(|error| {
                    let id = env.id().to_string();
                    problem::response(&error, &id, &id)
                });
                async move {
                    match refused {
                        Some(response) => response,
                        None => next.run(request).await,
                    }
                }
            },
        ))
    }
}
