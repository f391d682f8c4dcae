//! Sending events and waiting for their confirmations.

use std::collections::VecDeque;

use async_nats::Subject;
use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use trunkline_bus::PublishError;
use trunkline_core::{Envelope, Error, ErrorKind, Result};

use crate::link::Link;
use crate::shared::Shared;
use crate::{error, wire};

/// Events of a batch that are sent and not confirmed; beyond it, the oldest is waited for.
const UNCONFIRMED_MAX: usize = 1_024;

/// Sends a batch in order, and says how much of it the server has, from its start.
pub(crate) async fn publish(shared: &Shared, batch: &[Envelope]) -> Result<(), PublishError> {
    let mut accepted = 0;
    match send(shared, batch, &mut accepted).await {
        Ok(()) => Ok(()),
        Err(error) => Err(PublishError { accepted, error }),
    }
}

async fn send(shared: &Shared, batch: &[Envelope], accepted: &mut usize) -> Result<()> {
    if batch.is_empty() && !shared.links.is_closed() {
        return Ok(());
    }
    let link = shared.links.get().await?;
    let mut sent = VecDeque::with_capacity(batch.len().min(UNCONFIRMED_MAX));
    let mut refused = None;
    for event in batch {
        if sent.len() == UNCONFIRMED_MAX {
            confirm_first(shared, &link, &mut sent, batch, accepted).await?;
        }
        match send_one(shared, &link, event).await {
            Ok(confirmation) => sent.push_back(confirmation),
            Err(error) => {
                // Nothing behind it is sent; what was before it may still be confirmed.
                refused = Some(error);
                break;
            }
        }
    }
    while !sent.is_empty() {
        confirm_first(shared, &link, &mut sent, batch, accepted).await?;
    }
    refused.map_or(Ok(()), Err)
}

async fn send_one(shared: &Shared, link: &Link, event: &Envelope) -> Result<PublishAckFuture> {
    let topic = match shared.known(&event.topic) {
        Some(topic) => topic,
        None => shared.topic(link, &event.topic).await?,
    };
    let dedup = !shared.config.dedup_window.is_zero();
    let (headers, body) = wire::write(shared.config.form, event, dedup)?;
    let bytes = body.len();
    let subject = topic.subject(event.order_key()).cloned();
    let subject = subject.unwrap_or_else(|| Subject::from_static(""));
    let message = PublishMessage::build().payload(body).headers(headers);
    let sent = link
        .within("publish", link.js.send_publish(subject, message))
        .await?;
    sent.map_err(|error| match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => {
            let message = "the event is larger than the server takes (its setting max_payload)";
            Error::new(ErrorKind::TooLarge, "event_too_large", message)
                .with("topic", &event.topic)
                .with("event", &event.id)
                .with("data_bytes", bytes)
                .with("max_payload", link.client.max_payload())
        }
        _ => error::publish(error),
    })
}

/// Waits for the oldest confirmation.
async fn confirm_first(
    shared: &Shared,
    link: &Link,
    sent: &mut VecDeque<PublishAckFuture>,
    batch: &[Envelope],
    accepted: &mut usize,
) -> Result<()> {
    let Some(confirmation) = sent.pop_front() else {
        return Ok(());
    };
    let confirmed = tokio::select! {
        biased;
        confirmed = confirmation.into_future() => confirmed,
        () = link.ended() => return Err(error::lost().with("request", "publish")),
    };
    let Err(failed) = confirmed else {
        *accepted += 1;
        return Ok(());
    };
    let topic = batch.get(*accepted).map(|event| &event.topic);
    match (failed.kind(), topic) {
        (PublishErrorKind::TimedOut, _) => {
            // What still waits to be sent on this connection must not come after what is sent again.
            link.end();
            Err(error::publish(failed))
        }
        (PublishErrorKind::StreamNotFound, Some(topic)) => {
            shared.forget(topic);
            shared.topic(link, topic).await?;
            Err(error::publish(failed))
        }
        _ => Err(error::publish(failed)),
    }
}
