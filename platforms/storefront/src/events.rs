//! The events of the store. They are the contract between its services; no service sees another's
//! tables.
//!
//! # Source
//! Names and fields are those of the store's communication document; what it does not print is ours.

mod catalogue;
mod customer;
mod inventory;
mod order;
mod payment;

pub use catalogue::{ProductCreated, ProductUpdated};
pub use customer::{
    CartItemAdded, NotificationSent, SendNotification, UserRegistered, UserUpdated,
};
pub use inventory::{
    ExpireReservation, InventoryReleased, InventoryReserved, LowStock, ReservationExpired,
    ReservationLine, StockChanged,
};
pub use order::{Address, OrderConfirmed, OrderCreated, OrderFailed, OrderItem};
pub use payment::{PaymentFailed, PaymentRefunded, PaymentSuccess, ReconcilePayment};
