//! Once acknowledged, a delivery can't be handed back.

use trunkline_bus::Receipt;

fn both(receipt: Receipt) {
    receipt.ack();
    receipt.retry(std::time::Duration::ZERO);
}

fn main() {
    let _: fn(Receipt) = both;
}
