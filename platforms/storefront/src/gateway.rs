//! The store's gateway. What is not named here can't be reached from outside: the services' `/internal`
//! routes are not.

use serde_json::json;
use trunkline::gateway::{Config, Route, Service};

use crate::{analytics, auth, cart, inventory, order, payment, product, search, user};

/// The routes, and who may use each how often.
///
/// # Source
/// The limits of users and products are those of the store's own gateway file; an order takes several
/// requests, so carts and orders have more.
pub fn config() -> Config {
    Config::default()
        .plugin("cors", json!({ "origins": ["*"], "max_age": 3600 }))
        .plugin(
            "request-size-limiting",
            json!({ "allowed_payload_size": 1 }),
        )
        .service(open(auth::NAME, "/api/auth", &["POST"], 60))
        .service(open(product::NAME, "/api/products", &["GET"], 1_000))
        .service(open(search::NAME, "/api/search", &["GET"], 1_000))
        .service(open(inventory::NAME, "/api/inventory", &["GET"], 6_000))
        .service(signed_in(user::NAME, "/api/users", 100))
        .service(signed_in(cart::NAME, "/api/cart", 1_000))
        .service(signed_in(order::NAME, "/api/v1/orders", 6_000))
        .service(signed_in(payment::NAME, "/api/payments", 1_000))
        .service(signed_in(analytics::NAME, "/api/analytics", 1_000))
}

/// For everybody.
fn open(name: &str, path: &str, methods: &[&str], per_minute: u32) -> Service {
    let route = Route::new(format!("{name}-routes"), path).keep_path();
    let route = methods
        .iter()
        .fold(route, |route, method| route.method(*method));
    let limit = json!({ "minute": per_minute, "limit_by": "ip" });
    Service::new(name)
        .route(route)
        .plugin("rate-limiting", limit)
}

/// For those who have a token.
fn signed_in(name: &str, path: &str, per_minute: u32) -> Service {
    Service::new(name)
        .route(Route::new(format!("{name}-routes"), path).keep_path())
        .plugin("jwt", json!({}))
        .plugin(
            "rate-limiting",
            json!({ "minute": per_minute, "limit_by": "consumer" }),
        )
}
