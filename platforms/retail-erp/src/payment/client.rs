//! How others ask payment-service.

use trunkline::{Cx, Result};

use super::{NAME, Outcome, Process, Refund, Refunded};

/// Charges for an order.
///
/// # Errors
/// `Unavailable` while it is not known how it ends; `Conflict` when the order was cancelled.
pub(crate) async fn process(cx: &Cx, wanted: Process) -> Result<Outcome> {
    let key = format!("{}:pay", wanted.order_id);
    let payment = cx.service(NAME)?;
    let asked = payment
        .post("/internal/payments")
        .idempotency_key(&key)
        .json(&wanted);
    asked.send().await
}

/// Gives an order's money back.
pub(crate) async fn refund(cx: &Cx, order_id: &str) -> Result<()> {
    let key = format!("{order_id}:refund");
    let wanted = Refund {
        order_id: order_id.to_owned(),
    };
    let payment = cx.service(NAME)?;
    let asked = payment
        .post("/internal/refunds")
        .idempotency_key(&key)
        .json(&wanted);
    asked.send::<Refunded>().await.map(drop)
}
