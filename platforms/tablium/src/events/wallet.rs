//! What becomes of points: what is asked of the wallets, and what they tell.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::Event;

use crate::Points;

/// A user has a wallet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "wallet.created", version = "1.0", topic = "wallets", key = user_id)]
#[serde(rename_all = "camelCase")]
pub struct WalletCreated {
    /// Whose it is.
    pub user_id: String,
    /// The wallet.
    pub wallet_id: String,
    /// What they were given to begin with.
    pub balance: Points,
}

/// Points moved from or to a user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "wallet.transaction.created", version = "1.0", topic = "wallets", key = user_id)]
#[serde(rename_all = "camelCase")]
pub struct TransactionCreated {
    /// The name of the movement in the ledger.
    pub transaction_id: String,
    /// Whose wallet it changed.
    pub user_id: String,
    /// By how much.
    pub amount: Points,
}

/// What a user has, after a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "wallet.balance.updated", version = "1.0", topic = "wallets", key = user_id)]
#[serde(rename_all = "camelCase")]
pub struct BalanceUpdated {
    /// Whose wallet.
    pub user_id: String,
    /// What is left to spend.
    pub balance: Points,
}

/// Set the stakes of a match aside, of all its players or of none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(
    type = "wallet.hold.requested",
    version = "1.0",
    topic = "wallet-commands",
    key = match_id,
    kind = command
)]
#[serde(rename_all = "camelCase")]
pub struct HoldRequested {
    /// The match: it has one hold.
    pub match_id: String,
    /// Whose points.
    pub players: Vec<String>,
    /// How much of each.
    pub stake: Points,
}

/// Give the stakes of a match back; those that are not there yet never will be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(
    type = "wallet.release.requested",
    version = "1.0",
    topic = "wallet-commands",
    key = match_id,
    kind = command
)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseRequested {
    /// The match.
    pub match_id: String,
}

/// Give the stakes of a match to who won it, or back where nobody did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(
    type = "wallet.settlement.requested",
    version = "1.0",
    topic = "wallet-commands",
    key = match_id,
    kind = command
)]
#[serde(rename_all = "camelCase")]
pub struct SettlementRequested {
    /// The match.
    pub match_id: String,
    /// Who gets all; none for a draw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub winner_id: Option<String>,
}

/// Whether the stakes of a match are set aside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "wallet.hold.decided", version = "1.0", topic = "wallet-matches", key = match_id)]
#[serde(rename_all = "camelCase")]
pub struct HoldDecided {
    /// The match.
    pub match_id: String,
    /// Whether they are.
    pub held: bool,
    /// Who has less than that, if they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacking: Option<String>,
}

/// The stakes of a match have gone to whom they were for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "wallet.match.settled", version = "1.0", topic = "wallet-matches", key = match_id)]
#[serde(rename_all = "camelCase")]
pub struct MatchSettled {
    /// The match.
    pub match_id: String,
}
