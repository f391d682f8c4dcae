//! The platform's gateway, by domain. What is not named here can't be reached from outside: holds, quotes, legs and screenings
//! are between services.

use serde_json::json;
use trunkline::gateway::{Config, Route, Service};

use crate::{provider, transaction, wallet};

/// The routes, and who may use each how often.
pub fn config() -> Config {
    Config::default()
        .plugin(
            "request-size-limiting",
            json!({ "allowed_payload_size": 1 }),
        )
        .service(signed_in(wallet::NAME, "/api/v1/wallet", 6_000))
        .service(
            signed_in(transaction::NAME, "/api/v1/transactions", 6_000)
                .route(Route::new("health-routes", "/api/v1/health").keep_path()),
        )
        .service(signed_in(provider::NAME, "/api/v1/providers", 600))
}

/// For those who have a token.
fn signed_in(name: &str, path: &str, per_minute: u32) -> Service {
    let limit = json!({ "minute": per_minute, "limit_by": "consumer" });
    Service::new(name)
        .route(Route::new(format!("{name}-routes"), path).keep_path())
        .plugin("jwt", json!({}))
        .plugin("rate-limiting", limit)
}
