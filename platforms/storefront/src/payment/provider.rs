//! Talking to the payment provider.

use trunkline::{Cx, ErrorKind, Result};

use super::tables::Stored;
use super::{Config, PROVIDER};
use crate::sandbox::{Charge, ChargeRequest};

/// Charges a payment's card; the order's id is the idempotency key.
pub(super) async fn charge(cx: &Cx, payment: &Stored) -> Result<Charge> {
    let request = ChargeRequest {
        amount: payment.amount.minor(),
        currency: payment.currency.clone(),
        source: payment.card_token.clone(),
        reference: payment.order_id.clone(),
    };
    cx.service(PROVIDER)?
        .post("/v1/charges")
        .idempotency_key(&payment.order_id)
        .timeout(cx.config::<Config>()?.timeout())
        .json(&request)
        .send()
        .await
}

/// What became of an order's charge; none if it never reached the provider.
pub(super) async fn find(cx: &Cx, order_id: &str) -> Result<Option<Charge>> {
    let answer = cx
        .service(PROVIDER)?
        .get(format!("/v1/charges/{order_id}"))
        .timeout(cx.config::<Config>()?.timeout())
        .send()
        .await;
    match answer {
        Ok(charge) => Ok(Some(charge)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives an order's charge back, or makes sure that there will never be one.
pub(super) async fn void(cx: &Cx, order_id: &str) -> Result<Charge> {
    cx.service(PROVIDER)?
        .post(format!("/v1/charges/{order_id}/void"))
        .timeout(cx.config::<Config>()?.timeout())
        .send()
        .await
}
