//! What vending machines are told to do, and what came of it. Ours.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Event, Timestamp};

/// Have a machine vend a piece that is paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Event)]
#[event(
    type = "VendRequested",
    version = "1.0",
    topic = "vm-commands",
    key = machine_id,
    kind = command
)]
#[serde(rename_all = "camelCase")]
pub struct VendRequested {
    /// The machine.
    pub machine_id: String,
    /// Its own id of the sale.
    pub sale_id: String,
    /// From which slot.
    pub slot: String,
    /// When it is too late to begin.
    #[schemars(with = "String")]
    pub expires_at: Timestamp,
}

/// Vending ended, as the machine says or as its silence does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "VendEnded", version = "1.0", topic = "device-events", key = machine_id)]
#[serde(rename_all = "camelCase")]
pub struct VendEnded {
    /// The machine.
    pub machine_id: String,
    /// Its own id of the sale.
    pub sale_id: String,
    /// How it ended.
    pub end: VendEnd,
}

/// How vending ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VendEnd {
    /// The piece fell.
    Vended,
    /// It did not, and will not.
    NotVended,
    /// The machine did not answer in time. What it had begun by then it tells when it can.
    Unanswered,
}
