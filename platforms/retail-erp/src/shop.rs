//! shop-service: shops, their vending machines and their devices.
//!
//! A vending machine is a device that sells. It counts the stock of its shop, so a shop has one of them at most, and
//! more machines are more shops.

mod client;
mod devices;
mod http;
mod rpc;
mod tables;

use trunkline::{Migration, Service};

use crate::proto::DESCRIPTORS;
use crate::proto::shop::shop_server::ShopServer;

pub(crate) use client::{find_device, find_slot, update_device_status};
pub use http::{Device, Machine, NewDevice, NewMachine, NewShop, Shop, Slot};

/// The service's name.
pub const NAME: &str = "shop-service";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_shops",
    sql: include_str!("shop/0001_shops.sql"),
}];

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .migrations(MIGRATIONS)
        .on_start(tables::load_demo)
        .get("/api/shops", http::list)
        .get("/api/shops/{id}", http::find)
        .put("/api/shops/{id}", http::save)
        .put("/api/shops/{id}/devices/{device_id}", http::save_device)
        .put("/api/shops/{id}/machines/{machine_id}", http::save_machine)
        .get("/api/shops/{id}/devices/{device_id}/history", http::history)
        .grpc(ShopServer::new(rpc::Rpc), DESCRIPTORS)
        .on(devices::status_updated)
}
