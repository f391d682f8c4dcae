//! The flow of an order, as the ERP's communication document draws it.

use std::time::Duration;

use trunkline::{EventData as _, Flow};

use crate::events::{InventoryReserved, OrderCancelled, OrderConfirmed};

/// An order, from its reservation to its confirmation or its cancellation.
pub fn order() -> Flow {
    // A request that died leaves it to the reservation's end: 5 minutes.
    let decided = Duration::from_secs(6 * 60);
    Flow::named("order", "orderId")
        .starts_with(InventoryReserved::TYPE)
        .after(
            InventoryReserved::TYPE,
            decided,
            &[OrderConfirmed::TYPE, OrderCancelled::TYPE],
        )
        .succeeds_on(OrderConfirmed::TYPE)
        .fails_on(OrderCancelled::TYPE)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_order_flow_makes_sense() {
        super::order().check().unwrap();
    }
}
