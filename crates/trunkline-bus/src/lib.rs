//! The bus: one trait for every engine, the consumer runtime above it, and dead letters in sequence.
//!
//! An engine implements [`Transport`] and passes its raw guarantees through. What the engines differ in
//! (order per key, retries, dead letters, priority lanes) the runtime adds once, for all of them alike.

mod bus;
mod consumer;
mod handler;
mod lane;
pub mod memory;
mod parking;
mod split;
mod transport;

pub use bus::Bus;
pub use consumer::{
    Consumer, ConsumerConfig, ConsumerPorts, ReplayOutcome, ReplayReport, ReplayRequest,
    ReplayedLetter, RetryPolicy, SubscriptionState, SubscriptionStatus,
};
pub use handler::{Handler, Outcome};
pub use lane::{lane, lanes};
pub use parking::{
    Change, ChangeTeller, Changes, DeadLetter, DeadLetterQuery, ParkingLot, Reservation,
};
pub use split::Split;
pub use transport::{
    Capabilities, Delivery, PublishError, Receipt, Settlement, Settler, Start, Subscribe,
    Subscription, TopicSpec, Transport, UNREADABLE, partition_of, unreadable,
};
