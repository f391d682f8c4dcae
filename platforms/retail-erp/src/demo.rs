//! What there is on the first start: two shops, one of them a vending machine, and a few things to buy.

use crate::machine::Filled;

/// A shop.
#[derive(Debug, Clone, Copy)]
pub struct Shop {
    /// Its id.
    pub shop_id: &'static str,
    /// Its name.
    pub name: &'static str,
}

/// A product.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// Its id.
    pub product_id: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The price of one, in cents.
    pub price_minor: i64,
}

/// What lies in a shop.
#[derive(Debug, Clone, Copy)]
pub struct Stock {
    /// The shop.
    pub shop_id: &'static str,
    /// The product.
    pub product_id: &'static str,
    /// Pieces that lie there.
    pub stock: u32,
    /// As many as there should be.
    pub minimum: u32,
}

/// The shop with a counter.
pub const SHOP: &str = "shop_456";
/// The shop that is a vending machine.
pub const VENDING_SHOP: &str = "shop_457";
/// The vending machine there, which is a device too.
pub const MACHINE: &str = "device_123";

/// The shops.
pub const SHOPS: &[Shop] = &[
    Shop {
        shop_id: SHOP,
        name: "Harbour Street",
    },
    Shop {
        shop_id: VENDING_SHOP,
        name: "Central Station, platform 2",
    },
];

/// The products.
pub const PRODUCTS: &[Product] = &[
    Product {
        product_id: "prod_456",
        name: "Oat bar",
        price_minor: 150,
    },
    Product {
        product_id: "prod_789",
        name: "Espresso beans, 1 kg",
        price_minor: 2_500,
    },
    Product {
        product_id: "prod_790",
        name: "Mineral water, 0.5 l",
        price_minor: 199,
    },
    Product {
        product_id: "prod_791",
        name: "Umbrella",
        price_minor: 1_000,
    },
];

/// What lies where.
pub const STOCK: &[Stock] = &[
    Stock {
        shop_id: SHOP,
        product_id: "prod_456",
        stock: 100,
        minimum: 20,
    },
    Stock {
        shop_id: SHOP,
        product_id: "prod_789",
        stock: 45,
        minimum: 10,
    },
    Stock {
        shop_id: SHOP,
        product_id: "prod_791",
        stock: 12,
        minimum: 10,
    },
    Stock {
        shop_id: VENDING_SHOP,
        product_id: "prod_456",
        stock: 12,
        minimum: 4,
    },
    Stock {
        shop_id: VENDING_SHOP,
        product_id: "prod_790",
        stock: 10,
        minimum: 4,
    },
];

/// What lies in which slot of the vending machine.
pub const SLOTS: &[(&str, &str)] = &[("A1", "prod_456"), ("A2", "prod_790")];

/// The slots of the vending machine, filled with what its shop has.
pub fn filled() -> Vec<Filled> {
    let slots = SLOTS.iter().map(|(slot, product_id)| {
        let of = |stock: &&Stock| stock.shop_id == VENDING_SHOP && stock.product_id == *product_id;
        Filled {
            slot: (*slot).to_owned(),
            product_id: (*product_id).to_owned(),
            pieces: STOCK.iter().find(of).map_or(0, |stock| stock.stock),
        }
    });
    slots.collect()
}
