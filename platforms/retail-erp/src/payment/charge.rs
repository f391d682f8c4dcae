//! Charging.
//!
//! The gateway is asked before the transaction begins: a store is never held open while somebody outside takes their
//! time.

use std::time::Duration;

use trunkline::{Cx, Error, Money, Result};

use super::Config;
use super::tables::{self, Status, Stored};
use crate::events::{PaymentFailed, PaymentProcessed};
use crate::swishpay::{self, Charge, ChargeStatus, NewCharge};

/// What to charge for an order.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    /// The order; it is charged once.
    pub(crate) order_id: String,
    /// How much.
    pub(crate) amount: Money,
    /// The gateway's token of the customer's card.
    pub(crate) card_token: String,
}

/// How a payment ended.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// The payment.
    pub(crate) payment_id: String,
    /// Why nothing was charged, such as `insufficient_funds`; none if it was.
    pub(crate) failure: Option<String>,
}

/// Charges for an order. The same order again gets the same answer.
///
/// # Errors
/// `Unavailable` while the gateway has not decided or does not answer: ask again. `Conflict` with code
/// `payment_voided` when the order was cancelled.
pub(super) async fn process(cx: &Cx, wanted: Process) -> Result<Outcome> {
    let there = {
        let mut reader = cx.read().await?;
        tables::find(reader.conn(), &wanted.order_id).await?
    };
    if let Some(there) = there {
        return outcome(there, wanted.amount);
    }
    let charge = charge(cx, &wanted).await?;
    let status = match charge.status {
        ChargeStatus::Succeeded => Status::Succeeded,
        ChargeStatus::Declined => Status::Failed,
        ChargeStatus::Pending => {
            let text = "the payment gateway has not decided yet";
            let error = Error::unavailable("payment_pending", text);
            return Err(error.with_retry_after(Duration::from_secs(1)));
        }
        ChargeStatus::Voided | ChargeStatus::Refunded => return Err(voided()),
    };
    let payment = Stored {
        order_id: wanted.order_id,
        payment_id: cx.env().id().to_string(),
        user_id: cx.user().map(String::from).unwrap_or_default(),
        amount: wanted.amount,
        status,
        reason: charge.reason,
        refund_id: None,
    };
    let mut tx = cx.tx().await?;
    if tables::insert(tx.conn(), &payment).await? {
        tell(cx, &payment).await?;
        return outcome(payment, wanted.amount);
    }
    // Another request for the order was faster.
    let there = tables::find(tx.conn(), &payment.order_id).await?;
    there.map_or_else(|| Err(voided()), |there| outcome(there, wanted.amount))
}

async fn charge(cx: &Cx, wanted: &Process) -> Result<Charge> {
    let new = NewCharge {
        key: wanted.order_id.clone(),
        amount: wanted.amount,
        card_token: wanted.card_token.clone(),
    };
    cx.service(swishpay::NAME)?
        .post("/v1/charges")
        .idempotency_key(&wanted.order_id)
        .timeout(cx.config::<Config>()?.timeout())
        .json(&new)
        .send()
        .await
}

async fn tell(cx: &Cx, payment: &Stored) -> Result<()> {
    let (payment_id, order_id) = (payment.payment_id.clone(), payment.order_id.clone());
    match &payment.reason {
        Some(reason) => {
            let reason = reason.clone();
            cx.publish(PaymentFailed {
                payment_id,
                order_id,
                reason,
            })
            .await
        }
        None => {
            cx.publish(PaymentProcessed {
                payment_id,
                order_id,
                amount: payment.amount,
                status: "success".to_owned(),
                gateway: swishpay::NAME.to_owned(),
            })
            .await
        }
    }
}

fn outcome(payment: Stored, wanted: Money) -> Result<Outcome> {
    if payment.amount != wanted && payment.status == Status::Succeeded {
        let text = "the order was charged another amount before; it is paid back when it expires";
        return Err(Error::conflict("payment_differs", text));
    }
    let failure = match payment.status {
        Status::Succeeded => None,
        Status::Failed => Some(payment.reason.unwrap_or_else(|| "declined".to_owned())),
        Status::Refunded | Status::Voided => return Err(voided()),
    };
    Ok(Outcome {
        payment_id: payment.payment_id,
        failure,
    })
}

fn voided() -> Error {
    let text = "the order was cancelled: it is not charged any more";
    Error::conflict("payment_voided", text)
}
