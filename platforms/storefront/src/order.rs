//! order-service: orders, from their acceptance to their end.
//!
//! It alone decides an order's fate: confirmed when it is paid in time, failed when it is not. Payment
//! and stock follow what it says. There are two ways to its end, and [`Config::flow`] says which one new
//! orders go: by choreography each service does its part when it hears of the one before (`outcome`); by
//! orchestration a saga has it done, one part after the other (`saga`).

mod checkout;
mod http;
mod outcome;
mod saga;
mod tables;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Migration, SagaDefinition, Service};

use crate::cursor::Cursors;
use crate::events::{OrderConfirmed, OrderCreated, OrderFailed};
use crate::{cart, inventory, payment, product, user};

pub use http::{Accepted, NewOrder, NewOrderItem, Order, OrderLine, Orders};

/// The service's name.
pub const NAME: &str = "order-service";
/// The saga of an order.
pub const ORDER: &str = "order";

const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0001_orders",
        sql: include_str!("order/0001_orders.sql"),
    },
    Migration {
        name: "0002_flow",
        sql: include_str!("order/0002_flow.sql"),
    },
];

/// The `[service.order-service]` section.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How new orders come to their end. Each order goes to its end as it began.
    pub flow: OrderFlow,
}

/// How an order comes to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderFlow {
    /// Each service does its part when it hears of the one before.
    #[default]
    Choreography,
    /// A saga of order-service has each part done.
    Orchestration,
}

impl OrderFlow {
    fn name(self) -> &'static str {
        match self {
            Self::Choreography => "choreography",
            Self::Orchestration => "orchestration",
        }
    }

    fn named(name: &str) -> Self {
        match name {
            "orchestration" => Self::Orchestration,
            _ => Self::Choreography,
        }
    }
}

/// The service.
pub fn service(cursors: Cursors) -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .config::<Config>()
        .migrations(MIGRATIONS)
        .state(cursors)
        .calls(cart::NAME)
        .calls(product::NAME)
        .calls(user::NAME)
        .calls(inventory::NAME)
        .calls(payment::NAME)
        .publishes::<OrderCreated>()
        .publishes::<OrderConfirmed>()
        .publishes::<OrderFailed>()
        .idempotent_post("/api/v1/orders", checkout::create)
        .get("/api/v1/orders", http::list)
        .get("/api/v1/orders/{id}", http::find)
        .on(outcome::paid)
        .on(outcome::not_paid)
        .on(outcome::expired)
        .saga(
            SagaDefinition::named(ORDER)
                .version(1, saga::order)
                .failed(saga::failed),
        )
}
