//! The saga of a transfer.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trunkline::saga::Retries;
use trunkline::{Cx, Error, Result, Saga};

use super::tables;
use crate::Amount;
use crate::chains::Chain;
use crate::compliance::{self, Screened, Screening, Verdict};
use crate::events::{TransactionCompleted, TransactionFailed};
use crate::provider::{self, Choice, Execute, LegKind, LegState, Receipt, Undo, Wanted};
use crate::wallet::{self, Hold, NewHold};

/// What is to be carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// The transaction.
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
}

/// How a provider is tried with a leg before the next one is.
const AT_A_PROVIDER: Retries = Retries {
    attempts_max: 2,
    first: Duration::from_millis(200),
    longest: Duration::from_secs(1),
};

/// Screens, sets the money aside, and carries it over.
pub(super) async fn transfer(saga: Saga, transfer: Transfer) -> Result<Vec<Receipt>> {
    screen(&saga, &transfer).await?;
    hold(&saga, &transfer).await?;
    let mut receipts = Vec::new();
    for (leg, chain) in [
        (LegKind::Source, transfer.from),
        (LegKind::Bridge, transfer.to),
        (LegKind::Target, transfer.to),
    ] {
        saga.say(&format!("{} leg", leg.name()))?;
        receipts.push(carry_leg(&saga, &transfer, (leg, chain)).await?);
    }
    complete(&saga, &transfer).await?;
    Ok(receipts)
}

/// It has come to nothing, and all that was done for it is undone.
pub(super) async fn failed(cx: Cx, transfer: Transfer, error: Error) -> Result<()> {
    let mut tx = cx.tx().await?;
    let is_news = tables::fail(tx.conn(), &transfer.transaction_id, error.code()).await?;
    drop(tx);
    if !is_news {
        return Ok(());
    }
    cx.publish(TransactionFailed {
        transaction_id: transfer.transaction_id,
        user_id: transfer.user_id,
        reason: error.code().to_owned(),
    })
    .await
}

async fn screen(saga: &Saga, transfer: &Transfer) -> Result<()> {
    let asked = Screening {
        transaction_id: transfer.transaction_id.clone(),
        user_id: transfer.user_id.clone(),
        recipient: transfer.recipient.clone(),
        amount: transfer.amount,
        to: transfer.to,
    };
    let screened: Screened = saga
        .step("screen")
        .run(move |cx| {
            let asked = asked.clone();
            async move { post(&cx, compliance::NAME, "/api/v1/screenings", &asked).await }
        })
        .await?;
    match screened.verdict {
        Verdict::Cleared => Ok(()),
        Verdict::Stopped => {
            let code = screened.reason.unwrap_or_else(|| "stopped".to_owned());
            Err(Error::conflict(code, "compliance has stopped the transfer"))
        }
    }
}

async fn hold(saga: &Saga, transfer: &Transfer) -> Result<Hold> {
    let new = NewHold {
        transaction_id: transfer.transaction_id.clone(),
        user_id: transfer.user_id.clone(),
        amount: transfer.amount,
    };
    let release = format!("/api/v1/holds/{}/release", transfer.transaction_id);
    saga.step("hold")
        .input(&new)
        .undo(move |cx, _| {
            let path = release.clone();
            async move { post(&cx, wallet::NAME, &path, &()).await.map(|_: Hold| ()) }
        })
        .run(move |cx| {
            let new = new.clone();
            async move { post(&cx, wallet::NAME, "/api/v1/holds", &new).await }
        })
        .await
}

/// Has a leg carried out by the best provider, or the next best where that one can't.
async fn carry_leg(
    saga: &Saga,
    transfer: &Transfer,
    (leg, chain): (LegKind, Chain),
) -> Result<Receipt> {
    let mut except = Vec::new();
    loop {
        let wanted = Wanted {
            transaction_id: transfer.transaction_id.clone(),
            leg,
            chain,
            amount: transfer.amount,
            except: except.clone(),
        };
        let choice: Choice = saga
            .step(format!("choose for {}", leg.name()))
            .input(&except)
            .run(move |cx| {
                let wanted = wanted.clone();
                async move { post(&cx, provider::NAME, "/api/v1/quotes", &wanted).await }
            })
            .await?;
        let execute = Execute {
            provider: choice.provider.clone(),
            transaction_id: transfer.transaction_id.clone(),
            leg,
            chain,
            amount: transfer.amount,
        };
        let at_provider = saga.part(leg.name(), |part| {
            let execute = execute.clone();
            async move { carry_out(&part, execute).await }
        });
        match at_provider.await {
            Ok(receipt) => return Ok(receipt),
            Err(error) if error.code() == "saga_cancelled" => return Err(error),
            Err(error) => {
                tracing::info!(%error, provider = choice.provider, "a provider failed; the next is asked");
                except.push(choice.provider);
            }
        }
    }
}

async fn carry_out(part: &Saga, execute: Execute) -> Result<Receipt> {
    let undo = Undo {
        provider: execute.provider.clone(),
        transaction_id: execute.transaction_id.clone(),
        leg: execute.leg,
    };
    part.step(format!("{} at {}", execute.leg.name(), execute.provider))
        .input(&execute)
        .retries(AT_A_PROVIDER)
        .undo(move |cx: Cx, _| {
            let undo = undo.clone();
            async move {
                let mut tx = cx.tx().await?;
                tables::forget_leg(tx.conn(), &undo.transaction_id, undo.leg).await?;
                drop(tx);
                let path = "/api/v1/legs/reverse";
                post(&cx, provider::NAME, path, &undo)
                    .await
                    .map(|_: LegState| ())
            }
        })
        .run(move |cx: Cx| {
            let execute = execute.clone();
            async move {
                let receipt: Receipt = post(&cx, provider::NAME, "/api/v1/legs", &execute).await?;
                let mut tx = cx.tx().await?;
                tables::note_leg(tx.conn(), &execute.transaction_id, &receipt).await?;
                Ok(receipt)
            }
        })
        .await
}

/// The row, the event and the end of the step are one commit.
async fn complete(saga: &Saga, transfer: &Transfer) -> Result<()> {
    let transfer = transfer.clone();
    saga.step("complete")
        .run(move |cx: Cx| {
            let transfer = transfer.clone();
            async move {
                let mut tx = cx.tx().await?;
                tables::complete(tx.conn(), &transfer.transaction_id).await?;
                drop(tx);
                cx.publish(TransactionCompleted {
                    transaction_id: transfer.transaction_id,
                    user_id: transfer.user_id,
                    recipient: transfer.recipient,
                    amount: transfer.amount,
                    r#type: "SEND".to_owned(),
                })
                .await
            }
        })
        .await
}

/// Asks another service; the step's key makes it safe to ask again.
async fn post<T: for<'de> Deserialize<'de>>(
    cx: &Cx,
    service: &str,
    path: &str,
    body: &impl Serialize,
) -> Result<T> {
    cx.service(service)?.post(path).json(body).send().await
}
