//! The events of the ERP. They are the contract between its services; no service sees another's tables.
//!
//! # Source
//! The eleven events of the ERP's communication document, with its names and fields. Some more are ours, and say so:
//! [`ReservationExpired`], [`ExpireReservation`], those that ask again later, [`VendRequested`] and [`VendEnded`].

mod device;
mod inventory;
mod order;
mod payment;
mod vm;

pub use device::{Count, DeviceDataReceived, DeviceStatus, DeviceStatusUpdated};
pub use inventory::{
    ExpireReservation, InventoryReserved, LowStockAlert, ReservationExpired, StockUpdated,
};
pub use order::{OrderCancelled, OrderConfirmed, OrderCreated, OrderItem, SettleSale};
pub use payment::{PaymentFailed, PaymentProcessed, RefundPayment, RefundProcessed};
pub use vm::{VendEnd, VendEnded, VendRequested};
