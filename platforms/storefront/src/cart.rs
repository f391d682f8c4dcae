//! cart-service: what a customer has chosen and not ordered yet.

mod http;
mod sync;
mod tables;

use trunkline::{Migration, Service};

use crate::events::CartItemAdded;
use crate::product;

pub use http::{AddItem, Cart, CartItem, ChangeItem, Checkout};

/// The service's name.
pub const NAME: &str = "cart-service";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_carts",
    sql: include_str!("cart/0001_carts.sql"),
}];

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .migrations(MIGRATIONS)
        .calls(product::NAME)
        .publishes::<CartItemAdded>()
        .get("/api/cart", http::find)
        .post("/api/cart/items", http::add)
        .patch("/api/cart/items/{item_id}", http::change)
        .delete("/api/cart/items/{item_id}", http::remove)
        .post("/internal/checkouts", http::check_out)
        .on(sync::ordered)
}
