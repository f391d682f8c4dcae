//! payment-service: charges cards at the payment provider, once for each order.
//!
//! The provider is outside the platform and may decline, fail, be silent or answer late. The order's id
//! is the idempotency key there, so asking again never charges twice. As long as it is not known what
//! became of a charge, the payment is `processing` and is asked about again; it is only given up by a
//! void, after which the provider will not charge any more.

mod http;
mod provider;
mod settle;
mod sync;
mod tables;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Migration, Service};

use crate::events::{PaymentFailed, PaymentRefunded, PaymentSuccess, ReconcilePayment};

pub use http::{Card, Due, Payment};

/// The service's name.
pub const NAME: &str = "payment-service";
/// The name that the payment provider is called by.
pub const PROVIDER: &str = "payment-provider";
/// Where the payment provider is, unless `[external.payment-provider]` says otherwise.
pub const PROVIDER_URL: &str = "http://127.0.0.1:9910";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_payments",
    sql: include_str!("payment/0001_payments.sql"),
}];

/// The `[service.payment-service]` section.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long the provider may take to answer, in milliseconds.
    pub timeout_ms: u64,
    /// How long to wait before it is asked again, in milliseconds; doubled each time, up to 30 s.
    pub ask_again_ms: u64,
    /// How often it is asked before the payment is given up.
    pub attempts_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeout_ms: 5_000,
            ask_again_ms: 1_000,
            attempts_max: 6,
        }
    }
}

impl Config {
    fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    fn ask_again(&self, attempt: u32) -> Duration {
        let doubled = self
            .ask_again_ms
            .saturating_mul(1 << attempt.saturating_sub(1).min(10));
        Duration::from_millis(doubled.min(30_000))
    }
}

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .config::<Config>()
        .migrations(MIGRATIONS)
        .calls_external(PROVIDER, PROVIDER_URL)
        .publishes::<PaymentSuccess>()
        .publishes::<PaymentFailed>()
        .publishes::<PaymentRefunded>()
        .publishes::<ReconcilePayment>()
        .get("/api/payments/card", http::card)
        .put("/api/payments/card", http::set_card)
        .get("/api/payments/{order_id}", http::find)
        .post("/internal/payments/{order_id}/void", http::void)
        .on(sync::order_created)
        .on(sync::order_failed)
        .on(sync::reconcile)
}
