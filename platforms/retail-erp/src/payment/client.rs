//! How others ask payment-service.

use trunkline::{Cx, Result, grpc};

use super::{NAME, Outcome, Process};
use crate::proto::keyed;
use crate::proto::payment::payment_client::PaymentClient;
use crate::proto::payment::{ProcessPaymentRequest, RefundPaymentRequest};

/// Charges for an order.
///
/// # Errors
/// `Unavailable` while it is not known how it ends; `Conflict` when the order was cancelled.
pub(crate) async fn process(cx: &Cx, wanted: Process) -> Result<Outcome> {
    let mut payment = PaymentClient::new(cx.service(NAME)?.grpc());
    let key = format!("{}:pay", wanted.order_id);
    let wanted = ProcessPaymentRequest {
        order_id: wanted.order_id,
        amount_minor: wanted.amount.minor(),
        card_token: wanted.card_token,
    };
    let paid = payment
        .process_payment(keyed(&key, wanted)?)
        .await
        .map_err(grpc::error)?;
    let paid = paid.into_inner();
    Ok(Outcome {
        payment_id: paid.payment_id,
        failure: Some(paid.failure).filter(|failure| !failure.is_empty()),
    })
}

/// Gives an order's money back.
pub(crate) async fn refund(cx: &Cx, order_id: &str) -> Result<()> {
    let mut payment = PaymentClient::new(cx.service(NAME)?.grpc());
    let order_id = order_id.to_owned();
    let request = keyed(
        &format!("{order_id}:refund"),
        RefundPaymentRequest { order_id },
    )?;
    payment
        .refund_payment(request)
        .await
        .map(drop)
        .map_err(grpc::error)
}
