//! Events that customers are told of, and those that say whom to tell.

use trunkline::{Cx, Event, EventData, Result};

use super::Config;
use super::mailer::{Mail, Mailer, message_id};
use super::tables::{self, Contact};
use super::templates::{self, Text};
use crate::events::{
    NotificationSent, OrderConfirmed, OrderCreated, OrderFailed, UserRegistered, UserUpdated,
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
    {
        let mut tx = cx.tx().await?;
        tables::save_contact(tx.conn(), user_id, &contact).await?;
    }
    let text = templates::welcome(&contact.name);
    send(&cx, &event, user_id, &contact, &text).await
}

pub(super) async fn user_updated(cx: Cx, event: Event<UserUpdated>) -> Result<()> {
    let UserUpdated {
        user_id,
        full_name,
        email,
    } = event.data;
    let mut tx = cx.tx().await?;
    tables::save_contact(
        tx.conn(),
        &user_id,
        &Contact {
            name: full_name,
            email,
        },
    )
    .await
}

pub(super) async fn order_created(cx: Cx, event: Event<OrderCreated>) -> Result<()> {
    let mut tx = cx.tx().await?;
    tables::save_order(tx.conn(), &event.data).await
}

pub(super) async fn order_confirmed(cx: Cx, event: Event<OrderConfirmed>) -> Result<()> {
    tell(&cx, &event, &event.data.order_id, templates::confirmed).await
}

pub(super) async fn order_failed(cx: Cx, event: Event<OrderFailed>) -> Result<()> {
    let reason = &event.data.reason;
    let failed = |name: &str, order: &_| templates::failed(name, order, reason);
    tell(&cx, &event, &event.data.order_id, failed).await
}

/// Tells whoever made an order; an order that never came to be has nobody to tell.
async fn tell<T: EventData>(
    cx: &Cx,
    event: &Event<T>,
    order_id: &str,
    text: impl Fn(&str, &templates::Order) -> Text,
) -> Result<()> {
    let (order, contact) = {
        let mut reader = cx.read().await?;
        let Some((user_id, order)) = tables::order(reader.conn(), order_id).await? else {
            return Ok(());
        };
        let contact = tables::contact(reader.conn(), &user_id).await?;
        (order, contact.unwrap_or_else(|| nobody(&user_id)))
    };
    let text = text(&contact.name, &order);
    send(cx, event, order_id, &contact, &text).await
}

/// Sends a mail, and only then begins the transaction that notes it.
async fn send<T: EventData>(
    cx: &Cx,
    event: &Event<T>,
    subject_id: &str,
    contact: &Contact,
    text: &Text,
) -> Result<()> {
    let event_id = &event.envelope.id;
    let now = cx.env().now();
    let mail = Mail {
        event_id,
        name: &contact.name,
        email: &contact.email,
        text,
    };
    // A mail can't be taken back.
    if !cx.is_rehearsal() {
        cx.state::<Mailer>()?
            .send(&cx.config::<Config>()?, mail, now)
            .await?;
    }
    let mut tx = cx.tx().await?;
    tables::note_mail(
        tx.conn(),
        event_id,
        subject_id,
        text.template,
        &contact.email,
        now,
    )
    .await?;
    tx.publish(NotificationSent {
        subject_id: subject_id.to_owned(),
        template: text.template.to_owned(),
        message_id: message_id(event_id),
    })
    .await
}

/// A user who holds a token and has no account, as in a trial: the mail goes nowhere, and is kept.
fn nobody(user_id: &str) -> Contact {
    Contact {
        name: "customer".to_owned(),
        email: format!("{user_id}@customers.invalid"),
    }
}
