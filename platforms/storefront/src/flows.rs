//! The flows of the store, as its communication document draws them.

use std::time::Duration;

use trunkline::{EventData as _, Flow};

use crate::events::{
    InventoryReleased, OrderConfirmed, OrderCreated, OrderFailed, PaymentFailed, PaymentRefunded,
    PaymentSuccess,
};

/// An order, from its acceptance to its confirmation, or to the release of its stock.
pub fn order() -> Flow {
    let soon = Duration::from_secs(30);
    let paid = Duration::from_secs(3 * 60);
    Flow::named("order", "order_id")
        .starts_with(OrderCreated::TYPE)
        // Without any answer the reservation expires, and the order fails for that.
        .after(
            OrderCreated::TYPE,
            paid,
            &[PaymentSuccess::TYPE, PaymentFailed::TYPE, OrderFailed::TYPE],
        )
        // A payment that comes after its order has failed is given back.
        .after(
            PaymentSuccess::TYPE,
            soon,
            &[OrderConfirmed::TYPE, PaymentRefunded::TYPE],
        )
        .after(PaymentFailed::TYPE, soon, &[OrderFailed::TYPE])
        .after(OrderFailed::TYPE, soon, &[InventoryReleased::TYPE])
        .succeeds_on(OrderConfirmed::TYPE)
        .fails_on(InventoryReleased::TYPE)
        .fails_on(PaymentRefunded::TYPE)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_order_flow_makes_sense() {
        super::order().check().unwrap();
    }
}
