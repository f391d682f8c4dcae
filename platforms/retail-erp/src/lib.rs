//! The retail ERP: shops and their vending machines, ten services and the gateway in front of them.
//!
//! [`platform`] is the whole declaration; [`Erp`] runs it, or a part of it. Each service is a module with its own
//! tables, routes and handlers, and knows of the others what they publish and answer:
//!
//! | service | does |
//! |---|---|
//! | [`order`] | places orders: reserve, pay, confirm; and gives them back |
//! | [`inventory`] | what lies in each shop, and what of it is held for orders |
//! | [`payment`] | charges and refunds, once for each order |
//! | [`product`] | the catalogue, and where each product is to be had |
//! | [`campaign`] | what things cost while a campaign runs |
//! | [`shop`] | shops, their vending machines and their devices |
//! | [`notification`] | mail to customers and to those who fill the shops |
//! | [`report`] | sales by shop and day, and stock levels |
//! | [`iot`] | takes what devices report |
//! | [`vm`] | sells from vending machines |

pub mod campaign;
pub mod demo;
mod erp;
pub mod events;
pub mod flows;
pub mod gateway;
pub mod inventory;
pub mod iot;
pub mod limits;
pub mod machine;
pub mod notification;
pub mod order;
pub mod payment;
pub mod product;
pub mod program;
pub mod proto;
pub mod report;
pub mod shop;
pub mod swishpay;
pub mod vm;
mod welcome;

use trunkline::{Config, Cx, Platform, Result};

pub use erp::{Erp, token};
pub use program::Options;

/// The role of those who run the shops.
pub const STAFF: &str = "staff";
/// The role of devices that speak for themselves.
pub const DEVICE: &str = "device";

/// The device that a request comes from: it speaks for itself alone.
///
/// # Errors
/// Those of [`Cx::require_role`].
pub(crate) fn device_of(cx: &Cx) -> Result<String> {
    cx.require_role(DEVICE)?;
    Ok(cx.user()?.to_string())
}

/// The ERP's declaration, without a gateway: its services, and the flow of an order. The configuration says whether devices
/// report by MQTT.
pub fn platform(config: &Config) -> Platform {
    Platform::new("retail-erp")
        .version(env!("CARGO_PKG_VERSION"))
        .service(order::service())
        .service(inventory::service())
        .service(payment::service())
        .service(product::service())
        .service(campaign::service())
        .service(shop::service())
        .service(notification::service())
        .service(report::service())
        .service(iot::service(config))
        .service(vm::service())
        .flow(flows::order())
}
