//! Settling a delivery consumes its receipt.

use trunkline_bus::Delivery;

fn twice(delivery: Delivery) {
    delivery.receipt.ack();
    delivery.receipt.ack();
}

fn main() {
    let _: fn(Delivery) = twice;
}
