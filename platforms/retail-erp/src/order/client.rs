//! How others ask order-service.

use trunkline::{Cx, Result};

use super::{NAME, NewOrder, Order};

/// Places an order for the user at hand; the same key again is the same order.
///
/// # Errors
/// Those of the request itself: see `POST /orders`.
pub(crate) async fn place(cx: &Cx, key: &str, new: &NewOrder) -> Result<Order> {
    cx.service(NAME)?
        .post("/orders")
        .idempotency_key(key)
        .json(new)
        .send()
        .await
}

/// Gives an order of the user at hand back.
pub(crate) async fn refund(cx: &Cx, order_id: &str) -> Result<Order> {
    let order = cx.service(NAME)?.post(format!("/orders/{order_id}/refund"));
    order
        .idempotency_key(&format!("{order_id}:refund"))
        .send()
        .await
}
