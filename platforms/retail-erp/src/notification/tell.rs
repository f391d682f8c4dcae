//! What is told to whom.

use trunkline::{Cx, Envelope, Event, Result, sql};

use super::mailer::{self, Mail};
use super::{Config, contact};
use crate::events::{
    DeviceStatus, DeviceStatusUpdated, LowStockAlert, OrderCancelled, OrderCreated,
};

/// An order was placed: its customer gets the confirmation.
pub(super) async fn order_created(cx: Cx, event: Event<OrderCreated>) -> Result<()> {
    let order = &event.data;
    let pieces: u32 = order.items.iter().map(|item| item.quantity).sum();
    let body = format!(
        "Thank you for your order {}: {pieces} pieces, together {}. It is paid.\n",
        order.order_id, order.total_amount
    );
    to_customer(
        &cx,
        &event.envelope,
        &order.user_id,
        "Your order is confirmed",
        body,
    )
    .await
}

/// An order came to nothing, or was given back.
pub(super) async fn order_cancelled(cx: Cx, event: Event<OrderCancelled>) -> Result<()> {
    let OrderCancelled { order_id, reason } = &event.data;
    let why = match reason.as_str() {
        "payment_failed" => "the payment failed",
        "refunded" => "it was given back",
        _ => "it could not be completed in time",
    };
    let body = format!(
        "Your order {order_id} is cancelled, because {why}. You pay nothing for it: what was \
         charged is given back.\n"
    );
    let user_id = event.envelope.user_id.as_deref().unwrap_or_default();
    to_customer(
        &cx,
        &event.envelope,
        user_id,
        "Your order is cancelled",
        body,
    )
    .await
}

/// A shop has little left of something.
pub(super) async fn low_stock(cx: Cx, event: Event<LowStockAlert>) -> Result<()> {
    let LowStockAlert {
        shop_id,
        product_id,
        current_stock,
        minimum_stock,
    } = &event.data;
    let body = format!(
        "{shop_id} has {current_stock} pieces of {product_id} left, and should have \
         {minimum_stock}.\n"
    );
    to_keeper(&cx, &event.envelope, "Low stock", body).await
}

/// A device went away.
pub(super) async fn device_status_updated(cx: Cx, event: Event<DeviceStatusUpdated>) -> Result<()> {
    let DeviceStatusUpdated {
        device_id,
        shop_id,
        status,
        ..
    } = &event.data;
    if *status == DeviceStatus::Online {
        return Ok(());
    }
    let body = format!("{device_id} in {shop_id} is offline.\n");
    to_keeper(&cx, &event.envelope, "A device is offline", body).await
}

/// Customers who gave no address, and vending machines, are told nothing.
async fn to_customer(
    cx: &Cx,
    event: &Envelope,
    user_id: &str,
    subject: &str,
    body: String,
) -> Result<()> {
    let to = {
        let mut reader = cx.read().await?;
        contact::email_of(reader.conn(), user_id).await?
    };
    match to {
        Some(to) => mail(cx, event, &to, subject, body).await,
        None => Ok(()),
    }
}

async fn to_keeper(cx: &Cx, event: &Envelope, subject: &str, body: String) -> Result<()> {
    let to = cx.config::<Config>()?.keeper;
    mail(cx, event, &to, subject, body).await
}

async fn mail(cx: &Cx, event: &Envelope, to: &str, subject: &str, body: String) -> Result<()> {
    if cx.is_rehearsal() {
        // A mail can't be taken back.
        return Ok(());
    }
    let mail = Mail {
        event_id: &event.id,
        to,
        subject,
        body,
    };
    mailer::send(&cx.config()?, mail, cx.now()).await?;
    let mut tx = cx.tx().await?;
    let text = "INSERT INTO mails (event_id, recipient, subject, sent_at) VALUES ($1, $2, $3, $4) \
                ON CONFLICT (event_id) DO UPDATE SET sent_at = excluded.sent_at";
    let note = sql(text)
        .bind(&event.id)
        .bind(to)
        .bind(subject)
        .bind(cx.now());
    note.run(tx.conn()).await?;
    Ok(())
}
