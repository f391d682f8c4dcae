//! Events that customers are told of, and those that say whom to tell.

use trunkline::{Cx, Event, EventData, Result};

use super::tables::{self, Contact};
use super::templates::Template;
use crate::events::{
    OrderConfirmed, OrderCreated, OrderFailed, SendNotification, UserRegistered, UserUpdated,
};

pub(super) async fn user_registered(cx: Cx, event: Event<UserRegistered>) -> Result<()> {
    let UserRegistered {
        user_id,
        username,
        email,
    } = &event.data;
    let contact = Contact {
        name: username.clone(),
        email: email.clone(),
    };
    let mut tx = cx.tx().await?;
    tables::save_contact(tx.conn(), user_id, &contact).await?;
    drop(tx);
    tell(&cx, &event, Template::Welcome, user_id, None).await
}

pub(super) async fn user_updated(cx: Cx, event: Event<UserUpdated>) -> Result<()> {
    let contact = Contact {
        name: event.data.full_name,
        email: event.data.email,
    };
    let mut tx = cx.tx().await?;
    tables::save_contact(tx.conn(), &event.data.user_id, &contact).await
}

pub(super) async fn order_created(cx: Cx, event: Event<OrderCreated>) -> Result<()> {
    let mut tx = cx.tx().await?;
    tables::save_order(tx.conn(), &event.data).await
}

pub(super) async fn order_confirmed(cx: Cx, event: Event<OrderConfirmed>) -> Result<()> {
    let order_id = &event.data.order_id;
    tell(&cx, &event, Template::OrderConfirmed, order_id, None).await
}

pub(super) async fn order_failed(cx: Cx, event: Event<OrderFailed>) -> Result<()> {
    let OrderFailed { order_id, reason } = &event.data;
    let reason = Some(reason.clone());
    tell(&cx, &event, Template::OrderFailed, order_id, reason).await
}

/// Has a mail sent that tells of an event.
async fn tell<T: EventData>(
    cx: &Cx,
    event: &Event<T>,
    template: Template,
    subject_id: &str,
    reason: Option<String>,
) -> Result<()> {
    cx.publish(SendNotification {
        event_id: event.envelope.id.to_string(),
        subject_id: subject_id.to_owned(),
        template: template.name().to_owned(),
        reason,
        attempt: 1,
    })
    .await
}
