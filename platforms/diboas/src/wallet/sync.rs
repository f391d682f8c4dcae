//! What wallets do about what others tell.

use trunkline::{Cx, Error, Event, Result};

use super::book::{self, Account, Movement};
use super::http::updated;
use crate::events::TransactionCompleted;

/// A transaction is done: what was held goes to whom it was meant for.
pub(super) async fn completed(cx: Cx, event: Event<TransactionCompleted>) -> Result<()> {
    let done = event.data;
    let mut tx = cx.tx().await?;
    let hold = format!("{}:hold", done.transaction_id);
    if book::holder(tx.conn(), &hold).await?.is_none() {
        let text = "a transaction completed of which nothing is held";
        return Err(Error::conflict("hold_missing", text).with("transaction", done.transaction_id));
    }
    let settle = Movement {
        name: format!("{}:settle", done.transaction_id),
        from: Account::Held(done.transaction_id.clone()),
        to: Account::User(done.recipient.clone()),
        amount: done.amount,
    };
    let moved = book::apply(tx.conn(), &settle, cx.now()).await?;
    drop(tx);
    match moved {
        Some((_, balance)) => {
            updated(
                &cx,
                done.recipient,
                done.transaction_id,
                (done.amount, balance),
            )
            .await
        }
        None => Ok(()),
    }
}
