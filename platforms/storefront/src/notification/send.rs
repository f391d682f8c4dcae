//! Sending a mail, again and again if need be.

use trunkline::{Cx, Event, Result, Retry};

use super::Config;
use super::mailer::{Mail, Mailer};
use super::tables::{self, Contact};
use super::templates::{self, Template, Text};
use crate::events::{NotificationSent, SendNotification};

/// A mail server or a sender that can't be used is told at the start, and not with the first mail.
pub(super) async fn check(cx: Cx) -> Result<()> {
    cx.state::<Mailer>()?.check(&cx.config()?).await
}

/// Sends a mail, and only then begins the transaction that notes it.
pub(super) async fn send(cx: Cx, event: Event<SendNotification>) -> Result<()> {
    let wanted = event.data;
    let Some((contact, text)) = written(&cx, &wanted).await? else {
        return Ok(());
    };
    if cx.is_rehearsal() {
        // A mail can't be taken back.
        return Ok(());
    }
    let (config, now) = (cx.config::<Config>()?, cx.env().now());
    let mail = Mail {
        event_id: &wanted.event_id,
        to: contact.as_ref(),
        text: &text,
    };
    let sent = cx.state::<Mailer>()?.send(&config, mail, now).await;
    let message_id = match sent {
        Ok(message_id) => message_id,
        Err(error) if error.retry() == Retry::Permanent => return Err(error),
        Err(error) if wanted.attempt >= config.attempts_max => return Err(error),
        Err(error) => {
            let (event_id, attempt) = (&wanted.event_id, wanted.attempt);
            tracing::warn!(event_id, attempt, %error, "a mail could not be sent; it is tried again");
            let again = SendNotification {
                attempt: attempt.saturating_add(1),
                ..wanted
            };
            return cx.publish_in(config.pause(attempt), again).await;
        }
    };
    let mut tx = cx.tx().await?;
    let recipient = contact.map_or_else(String::new, |contact| contact.email);
    tables::note_mail(tx.conn(), &wanted, &recipient, now).await?;
    tx.publish(NotificationSent {
        subject_id: wanted.subject_id,
        template: wanted.template,
        message_id,
    })
    .await
}

/// Whom to write to and what. A user without an account, as in a trial, has no address; an order that
/// never came to be has nobody to tell.
async fn written(cx: &Cx, wanted: &SendNotification) -> Result<Option<(Option<Contact>, Text)>> {
    let SendNotification {
        subject_id, reason, ..
    } = wanted;
    let mut reader = cx.read().await?;
    let template = Template::named(&wanted.template)?;
    if template == Template::Welcome {
        let contact = tables::contact(reader.conn(), subject_id).await?;
        let text = templates::welcome(name(contact.as_ref()));
        return Ok(Some((contact, text)));
    }
    let Some((user_id, order)) = tables::order(reader.conn(), subject_id).await? else {
        return Ok(None);
    };
    let contact = tables::contact(reader.conn(), &user_id).await?;
    let name = name(contact.as_ref());
    let text = match template {
        Template::OrderFailed => {
            templates::failed(name, &order, reason.as_deref().unwrap_or_default())
        }
        _ => templates::confirmed(name, &order),
    };
    Ok(Some((contact, text)))
}

fn name(contact: Option<&Contact>) -> &str {
    contact.map_or("customer", |contact| &contact.name)
}
