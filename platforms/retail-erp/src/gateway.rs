//! The ERP's gateway. What is not named here can't be reached from outside.

use serde_json::json;
use trunkline::gateway::{Config, Route, Service};

use crate::{campaign, inventory, iot, notification, order, payment, product, report, shop, vm};

/// An order waits for its payment, which may take longer than other calls.
const ORDER_TIMEOUT_MS: u32 = 30_000;

/// The routes, and who may use each how often. Which role a request needs is each service's own to say.
pub fn config() -> Config {
    let mut orders = signed_in(order::NAME, "/orders", 6_000);
    orders.read_timeout = Some(ORDER_TIMEOUT_MS);
    Config::default()
        .plugin(
            "request-size-limiting",
            json!({ "allowed_payload_size": 1 }),
        )
        .service(orders)
        .service(signed_in(inventory::NAME, "/api/inventory", 6_000))
        .service(signed_in(payment::NAME, "/api/payments", 1_000))
        .service(signed_in(product::NAME, "/api/products", 1_000))
        .service(signed_in(campaign::NAME, "/api/campaigns", 1_000))
        .service(signed_in(shop::NAME, "/api/shops", 1_000))
        .service(signed_in(notification::NAME, "/api/notifications", 1_000))
        .service(signed_in(report::NAME, "/api/reports", 1_000))
        .service(signed_in(iot::NAME, "/api/devices", 600))
        .service(signed_in(vm::NAME, "/api/vm", 600))
}

/// For those who have a token.
fn signed_in(name: &str, path: &str, per_minute: u32) -> Service {
    let limit = json!({ "minute": per_minute, "limit_by": "consumer" });
    Service::new(name)
        .route(Route::new(format!("{name}-routes"), path).keep_path())
        .plugin("jwt", json!({}))
        .plugin("rate-limiting", limit)
}
