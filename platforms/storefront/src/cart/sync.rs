//! What an order does to the cart that it came from.

use trunkline::{Cx, Event, Result};

use super::tables;
use crate::events::OrderCreated;

/// The order exists: what it took leaves the cart.
pub(super) async fn ordered(cx: Cx, event: Event<OrderCreated>) -> Result<()> {
    let mut tx = cx.tx().await?;
    tables::take_checkout(tx.conn(), &event.data.order_id).await
}
