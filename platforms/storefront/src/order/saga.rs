//! An order by orchestration: what each service does for it, told in one place.
//!
//! What the others hear is the same as by choreography: `order.created`, and in the end `order.confirmed` or
//! `order.failed`. Payment-service charges what was created whichever way it goes; what it says of the charge,
//! and inventory-service of the stock, comes as the signal [`OUTCOME`].

use std::time::Duration;

use trunkline::saga::Retries;
use trunkline::{Cx, Error, Result, Saga};

use super::outcome::{self, EXPIRED, OUTCOME, Outcome};
use super::{checkout, tables};
use crate::events::OrderCreated;
use crate::{inventory, payment};

/// An order that was accepted does not fail because a service or a store is away: for about eight hours it is
/// tried again.
const PATIENT: Retries = Retries {
    attempts_max: 500,
    first: Duration::from_millis(250),
    longest: Duration::from_secs(60),
};
/// Stock is held for minutes and payments are given up sooner: who says nothing for so long is not waited for.
const OUTCOME_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// Reserves the stock, has the card charged, and confirms.
pub(super) async fn order(saga: Saga, order: OrderCreated) -> Result<()> {
    reserve(&saga, &order).await?;
    charge(&saga, &order).await?;
    confirm(&saga, &order).await
}

/// It has come to nothing: its money and its stock are given back.
pub(super) async fn failed(cx: Cx, order: OrderCreated, error: Error) -> Result<()> {
    outcome::fail(&cx, order.order_id, error.code()).await
}

/// The stock was held before the order was accepted; from here on it is the saga's to give back.
async fn reserve(saga: &Saga, order: &OrderCreated) -> Result<()> {
    let (order, held) = (order.clone(), order.clone());
    saga.step("reserve")
        .retries(PATIENT)
        .undo(move |cx, _| release(cx, held.order_id.clone()))
        .run(move |cx: Cx| {
            let order = order.clone();
            async move {
                let pieces = order.items.iter();
                let pieces = pieces.map(|item| (&*item.product_id, item.quantity));
                checkout::reserve(&cx, &order.order_id, pieces).await
            }
        })
        .await
}

async fn release(cx: Cx, order_id: String) -> Result<()> {
    let path = format!("/internal/reservations/{order_id}/release");
    let service = cx.service(inventory::NAME)?;
    let _: inventory::Reservation = service.post(path).send().await?;
    Ok(())
}

/// Payment-service charges every order that was created, and asks the provider until it knows what came of it.
async fn charge(saga: &Saga, order: &OrderCreated) -> Result<()> {
    let (order, charged) = (order.clone(), order.clone());
    saga.step("charge")
        .retries(PATIENT)
        .undo(move |cx, _| void(cx, charged.clone()))
        .run(move |cx: Cx| {
            let created = order.clone();
            async move { cx.publish(created).await }
        })
        .await?;
    let outcome = saga.signal(OUTCOME, OUTCOME_WITHIN).await?;
    match outcome.unwrap_or_else(|| Outcome::Failed(EXPIRED.to_owned())) {
        Outcome::Paid => Ok(()),
        Outcome::Failed(reason) => Err(Error::conflict(reason, "the order comes to nothing")),
    }
}

/// Whatever was or will be charged is given back, also what payment-service has yet to hear of.
async fn void(cx: Cx, order: OrderCreated) -> Result<()> {
    let path = format!("/internal/payments/{}/void", order.order_id);
    let due = payment::Due {
        user_id: order.user_id,
        amount: order.total,
        currency: order.currency,
    };
    let service = cx.service(payment::NAME)?;
    let _: payment::Payment = service.post(path).json(&due).send().await?;
    Ok(())
}

/// From here on the order is not taken back: its stock is on its way.
async fn confirm(saga: &Saga, order: &OrderCreated) -> Result<()> {
    let (order_id, confirmed) = (order.order_id.clone(), order.order_id.clone());
    saga.step("confirm")
        .retries(PATIENT)
        .undo(move |cx, _| unless_confirmed(cx, confirmed.clone()))
        .run(move |cx: Cx| {
            let order_id = order_id.clone();
            async move { outcome::confirm(&cx, order_id).await }
        })
        .await
}

async fn unless_confirmed(cx: Cx, order_id: String) -> Result<()> {
    let mut tx = cx.tx().await?;
    if tables::is_confirmed(tx.conn(), &order_id).await? {
        let text = "a confirmed order is not taken back";
        return Err(Error::conflict("order_confirmed", text).with("order_id", order_id));
    }
    Ok(())
}
