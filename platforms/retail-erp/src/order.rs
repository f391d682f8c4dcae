//! order-service: places orders, and gives them back.
//!
//! It alone decides an order's fate. Placing one is a saga of three steps: reserve the stock, take the payment, write the
//! order down; if the payment fails, the stock is released and the order is written down as cancelled. The order's id
//! follows from the request's idempotency key, so a request that is sent again goes on where the first one died. One
//! that is never sent again is cancelled when its reservation expires, and what was paid for it is paid back.

mod client;
mod http;
mod outcome;
mod placing;
mod tables;

use trunkline::{Migration, Service};

use crate::events::{OrderCancelled, OrderConfirmed, OrderCreated};
use crate::{campaign, inventory, payment};

pub(crate) use client::{place, refund};
pub use http::{NewItem, NewOrder, Order, OrderLine, Quote, Receipt, Status};

/// The service's name.
pub const NAME: &str = "order-service";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_orders",
    sql: include_str!("order/0001_orders.sql"),
}];

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .migrations(MIGRATIONS)
        .calls(campaign::NAME)
        .calls(inventory::NAME)
        .calls(payment::NAME)
        .publishes::<OrderCreated>()
        .publishes::<OrderConfirmed>()
        .publishes::<OrderCancelled>()
        .idempotent_post("/orders", placing::create)
        .post("/orders/quote", placing::quote)
        .get("/orders", http::list)
        .get("/orders/{id}", http::find)
        .idempotent_post("/orders/{id}/refund", outcome::refund)
        .on(outcome::payment_processed)
        .on(outcome::refund_processed)
        .on(outcome::reservation_expired)
}
