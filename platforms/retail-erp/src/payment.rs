//! payment-service: charges at the payment gateway and refunds, once for each order.
//!
//! The order's id is the key at the gateway, so asking again never charges twice. A refund before the charge sees to it
//! that there will be none: a cancelled order costs nothing, whatever arrives in which order.

mod charge;
mod client;
mod http;
mod refunds;
mod rpc;
mod tables;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Migration, Service};

use crate::events::{PaymentFailed, PaymentProcessed, RefundPayment, RefundProcessed};
use crate::proto::DESCRIPTORS;
use crate::proto::payment::payment_server::PaymentServer;
use crate::swishpay;

pub(crate) use charge::{Outcome, Process};
pub(crate) use client::{process, refund};
pub use http::Payment;

/// The service's name.
pub const NAME: &str = "payment-service";
/// Where the payment gateway is, unless `[external.swishpay]` says otherwise.
pub const GATEWAY_URL: &str = "http://127.0.0.1:9911";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_payments",
    sql: include_str!("payment/0001_payments.sql"),
}];

/// The `[service.payment-service]` section.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long the gateway may take to answer, in milliseconds.
    pub timeout_ms: u64,
    /// How long to wait before a refund that failed is tried again, in milliseconds; doubled each time, up to 5 minutes.
    pub ask_again_ms: u64,
    /// How often a refund is tried before it becomes a dead letter: for about eight hours.
    pub attempts_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeout_ms: 4_000,
            ask_again_ms: 1_000,
            attempts_max: 100,
        }
    }
}

impl Config {
    fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    fn pause(&self, attempt: u32) -> Duration {
        let doubled = self
            .ask_again_ms
            .saturating_mul(1 << attempt.saturating_sub(1).min(20));
        Duration::from_millis(doubled.min(5 * 60 * 1_000))
    }
}

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .config::<Config>()
        .migrations(MIGRATIONS)
        .calls_external(swishpay::NAME, GATEWAY_URL)
        .publishes::<PaymentProcessed>()
        .publishes::<PaymentFailed>()
        .publishes::<RefundProcessed>()
        .publishes::<RefundPayment>()
        .get("/api/payments/{order_id}", http::find)
        .grpc(PaymentServer::new(rpc::Rpc), DESCRIPTORS)
        .on(refunds::order_cancelled)
        .on(refunds::again)
}
