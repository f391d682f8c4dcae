//! What the services tell each other, under the names that the platform has for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::Event;

use crate::Amount;
use crate::chains::Chain;

/// Money is on its way: the queue of financial operations, which never wait behind others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(
    type = "transaction:submitted",
    version = "1.0",
    topic = "financial.transactions",
    key = user_id,
    priority = high
)]
#[serde(rename_all = "camelCase")]
pub struct TransactionSubmitted {
    /// The transaction.
    pub transaction_id: String,
    /// Whose it is.
    pub user_id: String,
    /// How much.
    pub amount: Amount,
    /// What sort: `SEND`.
    pub r#type: String,
}

/// A transaction is done, everywhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "transaction:completed", version = "1.0", topic = "transactions", key = user_id)]
#[serde(rename_all = "camelCase")]
pub struct TransactionCompleted {
    /// The transaction.
    pub transaction_id: String,
    /// Whose it is.
    pub user_id: String,
    /// Who gets it.
    pub recipient: String,
    /// How much.
    pub amount: Amount,
    /// What sort: `SEND`.
    pub r#type: String,
}

/// A transaction came to nothing: all that was done for it is undone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "transaction:failed", version = "1.0", topic = "transactions", key = user_id)]
#[serde(rename_all = "camelCase")]
pub struct TransactionFailed {
    /// The transaction.
    pub transaction_id: String,
    /// Whose it is.
    pub user_id: String,
    /// Why, in snake case.
    pub reason: String,
}

/// What a user has changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "wallet:updated", version = "1.0", topic = "wallets", key = user_id)]
#[serde(rename_all = "camelCase")]
pub struct WalletUpdated {
    /// Whose wallet.
    pub user_id: String,
    /// The transaction or deposit that changed it.
    pub cause: String,
    /// By how much.
    pub change: Amount,
    /// What is left.
    pub balance: Amount,
}

/// Somebody has to look at a transaction. Who and how much is for compliance alone: it travels encrypted, with an integrity
/// check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(
    type = "compliance:flagged",
    version = "1.0",
    topic = "compliance",
    key = transaction_id,
    encrypted
)]
#[serde(rename_all = "camelCase")]
pub struct TransactionFlagged {
    /// The transaction.
    pub transaction_id: String,
    /// Whose it is.
    pub user_id: String,
    /// Who was to get it.
    pub recipient: String,
    /// How much.
    pub amount: Amount,
    /// Where it was to go.
    pub to: Chain,
    /// Why it was stopped.
    pub reason: String,
}
