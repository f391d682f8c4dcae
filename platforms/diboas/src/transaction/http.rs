//! Transfers as they are asked for and shown.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Accepted, Cx, Error, Json, Path, Result, Timestamp};

use super::tables;
use crate::chains::Chain;
use crate::events::TransactionSubmitted;
use crate::{Amount, STAFF, limits};

/// What to send.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewTransfer {
    /// Who gets it.
    pub recipient: String,
    /// How much.
    pub amount: Amount,
    /// From which chain.
    pub from: Chain,
    /// To which: another one.
    pub to: Chain,
}

/// A transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transaction {
    /// Its id.
    pub transaction_id: String,
    /// Whose money.
    pub user_id: String,
    /// Who gets it.
    pub recipient: String,
    /// How much.
    pub amount: Amount,
    /// From which chain.
    pub from: Chain,
    /// To which.
    pub to: Chain,
    /// How it stands.
    pub status: Status,
    /// Why it failed, in snake case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was submitted.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
}

/// How a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is on its way.
    Processing,
    /// It has arrived.
    Completed,
    /// It came to nothing, and all that was done for it is undone.
    Failed,
}

/// Accepts a transfer and queues it with the financial operations.
pub(super) async fn submit(cx: Cx, Json(new): Json<NewTransfer>) -> Result<Accepted<Transaction>> {
    let user_id = cx.user()?.to_string();
    limits::id("recipient", &new.recipient)?;
    if new.from == new.to {
        return Err(Error::invalid(
            "chains_equal",
            "a transfer goes from one chain to another",
        ));
    }
    if new.recipient == user_id {
        return Err(Error::invalid(
            "recipient_self",
            "a transfer goes to somebody else",
        ));
    }
    let transaction = Transaction {
        transaction_id: format!("tx_{}", cx.stable_id().simple()),
        user_id,
        recipient: new.recipient,
        amount: new.amount.positive()?,
        from: new.from,
        to: new.to,
        status: Status::Processing,
        reason: None,
        created_at: cx.now(),
    };
    let mut tx = cx.tx().await?;
    tables::insert(tx.conn(), &transaction).await?;
    drop(tx);
    cx.publish(TransactionSubmitted {
        transaction_id: transaction.transaction_id.clone(),
        user_id: transaction.user_id.clone(),
        amount: transaction.amount,
        r#type: "SEND".to_owned(),
    })
    .await?;
    let location = format!("/api/v1/transactions/{}", transaction.transaction_id);
    Ok(Accepted::at(location, transaction))
}

/// The user's own, the newest first.
pub(super) async fn list(cx: Cx) -> Result<Json<Vec<Transaction>>> {
    let user = cx.user()?;
    let mut reader = cx.read().await?;
    tables::of_user(reader.conn(), &user).await.map(Json)
}

pub(super) async fn find(cx: Cx, Path(transaction_id): Path<String>) -> Result<Json<Transaction>> {
    visible(&cx, &transaction_id).await.map(Json)
}

/// A transaction that the user may see: their own, or any for the staff.
pub(super) async fn visible(cx: &Cx, transaction_id: &str) -> Result<Transaction> {
    let user = cx.user()?;
    let mut reader = cx.read().await?;
    let found = tables::find(reader.conn(), transaction_id).await?;
    let found = found.filter(|one| user == one.user_id || cx.require_role(STAFF).is_ok());
    found.ok_or_else(|| limits::unknown("transaction", transaction_id))
}
