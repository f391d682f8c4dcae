//! Taking over what the provider says.

use trunkline::{Cx, Error, Result};

use super::Config;
use super::tables::{self, Status, Stored};
use crate::events::{PaymentFailed, PaymentRefunded, PaymentSuccess, ReconcilePayment};
use crate::sandbox::{Charge, ChargeStatus};

/// Writes down how a charge ended and tells the others, or asks again later if it has not.
pub(super) async fn settle(cx: &Cx, asked: Stored, charge: Charge, attempt: u32) -> Result<()> {
    let mut tx = cx.tx().await?;
    // What is stored counts: another event may have changed it while the provider was asked.
    let mut payment = tables::begin(tx.conn(), asked).await?;
    if matches!(payment.status, Status::Failed | Status::Refunded) {
        return Ok(());
    }
    let before = payment.status;
    payment.provider_transaction_id = Some(charge.id);
    payment.reason = charge.reason;
    match charge.status {
        ChargeStatus::Pending => {
            tables::save(tx.conn(), &payment).await?;
            return ask_again(cx, payment.order_id, attempt).await;
        }
        ChargeStatus::Succeeded => {
            payment.status = Status::Succeeded;
            if before == Status::Processing {
                let number = tables::next_number(tx.conn(), cx.env().now()).await?;
                payment.transaction_id = Some(number);
            }
        }
        ChargeStatus::Declined => payment.status = Status::Failed,
        ChargeStatus::Voided => {
            payment.status = Status::Failed;
            payment.reason = Some("provider_timeout".to_owned());
        }
        ChargeStatus::Refunded => payment.status = Status::Refunded,
    }
    tables::save(tx.conn(), &payment).await?;
    if before == payment.status {
        Ok(())
    } else {
        tell(cx, payment).await
    }
}

/// The provider gave no answer, or none that decides.
pub(super) async fn unanswered(cx: &Cx, asked: Stored, error: &Error, attempt: u32) -> Result<()> {
    tracing::warn!(order_id = asked.order_id, attempt, %error, "the payment provider did not answer");
    let mut tx = cx.tx().await?;
    let payment = tables::begin(tx.conn(), asked).await?;
    ask_again(cx, payment.order_id, attempt).await
}

async fn ask_again(cx: &Cx, order_id: String, attempt: u32) -> Result<()> {
    let pause = cx.config::<Config>()?.ask_again(attempt);
    cx.publish_in(
        pause,
        ReconcilePayment {
            order_id,
            attempt: attempt.saturating_add(1),
        },
    )
    .await
}

async fn tell(cx: &Cx, payment: Stored) -> Result<()> {
    let Stored {
        order_id,
        payment_id,
        amount,
        currency,
        ..
    } = payment;
    match payment.status {
        Status::Processing => Ok(()),
        Status::Succeeded => {
            cx.publish(PaymentSuccess {
                payment_id,
                order_id,
                transaction_id: payment.transaction_id.unwrap_or_default(),
                amount,
                currency,
                payment_method: "credit_card".to_owned(),
                provider: "sandbox".to_owned(),
                provider_transaction_id: payment.provider_transaction_id.unwrap_or_default(),
            })
            .await
        }
        Status::Failed => {
            let reason = payment.reason.unwrap_or_else(|| "declined".to_owned());
            cx.publish(PaymentFailed { order_id, reason }).await
        }
        Status::Refunded => {
            cx.publish(PaymentRefunded {
                payment_id,
                order_id,
                amount,
                currency,
            })
            .await
        }
    }
}
