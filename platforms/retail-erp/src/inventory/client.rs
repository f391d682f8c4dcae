//! How others ask inventory-service.

use trunkline::{Cx, ErrorKind, Result};

use super::{Held, NAME, Release, Reserve, StockLevel};

/// Holds stock for an order.
///
/// # Errors
/// `Conflict` with code `stock_insufficient`; `NotFound` with code `stock_unknown`.
pub(crate) async fn reserve(cx: &Cx, wanted: Reserve) -> Result<()> {
    let key = format!("{}:reserve", wanted.order_id);
    let inventory = cx.service(NAME)?;
    let asked = inventory
        .post("/internal/reservations")
        .idempotency_key(&key)
        .json(&wanted);
    asked.send::<Held>().await.map(drop)
}

/// Gives free what is held for an order.
pub(crate) async fn release(cx: &Cx, order_id: &str) -> Result<()> {
    let key = format!("{order_id}:release");
    let wanted = Release {
        order_id: order_id.to_owned(),
    };
    let inventory = cx.service(NAME)?;
    let asked = inventory
        .post("/internal/releases")
        .idempotency_key(&key)
        .json(&wanted);
    asked.send_empty().await.map(drop)
}

/// What there is of a product in a shop, if it has any.
pub(crate) async fn level(cx: &Cx, shop_id: &str, product_id: &str) -> Result<Option<StockLevel>> {
    let inventory = cx.service(NAME)?;
    match inventory
        .get(format!("/api/inventory/{shop_id}/{product_id}"))
        .send()
        .await
    {
        Ok(level) => Ok(Some(level)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
