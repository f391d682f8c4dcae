//! order-service: orders, from their acceptance to their end.
//!
//! It alone decides an order's fate: confirmed when it is paid in time, failed when it is not. Payment
//! and stock follow what it says.

mod checkout;
mod http;
mod outcome;
mod tables;

use trunkline::{Migration, Service};

use crate::cursor::Cursors;
use crate::events::{OrderConfirmed, OrderCreated, OrderFailed};
use crate::{cart, inventory, product, user};

pub use http::{Accepted, NewOrder, NewOrderItem, Order, OrderLine, Orders};

/// The service's name.
pub const NAME: &str = "order-service";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_orders",
    sql: include_str!("order/0001_orders.sql"),
}];

/// The service.
pub fn service(cursors: Cursors) -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .migrations(MIGRATIONS)
        .state(cursors)
        .calls(cart::NAME)
        .calls(product::NAME)
        .calls(user::NAME)
        .calls(inventory::NAME)
        .publishes::<OrderCreated>()
        .publishes::<OrderConfirmed>()
        .publishes::<OrderFailed>()
        .idempotent_post("/api/v1/orders", checkout::create)
        .get("/api/v1/orders", http::list)
        .get("/api/v1/orders/{id}", http::find)
        .on(outcome::paid)
        .on(outcome::not_paid)
        .on(outcome::expired)
}
