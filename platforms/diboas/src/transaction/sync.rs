//! What transactions do about what is told.

use trunkline::{Cx, Error, Event, Result};

use super::{TRANSFER, Transfer, tables};
use crate::events::{TransactionFlagged, TransactionSubmitted};

/// A transaction is its turn among the financial operations: its saga begins, once.
pub(super) async fn submitted(cx: Cx, event: Event<TransactionSubmitted>) -> Result<()> {
    let id = event.data.transaction_id;
    let mut tx = cx.tx().await?;
    let found = tables::find(tx.conn(), &id).await?;
    drop(tx);
    let one = found.ok_or_else(|| {
        let text = "a transaction was submitted that is not there";
        Error::not_found("transaction_unknown", text).with("transaction", &id)
    })?;
    let transfer = Transfer {
        transaction_id: one.transaction_id,
        user_id: one.user_id,
        recipient: one.recipient,
        amount: one.amount,
        from: one.from,
        to: one.to,
    };
    cx.start_saga(TRANSFER, &id, &transfer).await?;
    Ok(())
}

/// Compliance has stopped one: why is for the staff's eyes, in the audit log.
pub(super) async fn flagged(cx: Cx, event: Event<TransactionFlagged>) -> Result<()> {
    let flagged = event.data;
    cx.audit(
        "transaction.flagged",
        &format!("{}: {}", flagged.transaction_id, flagged.reason),
    )
}
