//! Publishing: batches are sent one after the other, and their confirmations awaited together.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;
use trunkline_bus::{PublishError, partition_of};
use trunkline_core::{Envelope, Error, Result, Retry};

use crate::amqp::{Channel, Connection, Events, Properties};
use crate::transport::Shared;
use crate::{error, event};

/// The longest routing key.
const KEY_BYTES_MAX: usize = 255;

/// What the server has confirmed on a channel.
#[derive(Default)]
pub(crate) struct Confirms {
    state: Mutex<State>,
    moved: Notify,
}

#[derive(Default)]
struct State {
    /// Everything up to it is settled.
    upto: u64,
    /// Settled beyond it.
    beyond: BTreeSet<u64>,
    /// Settled by a refusal, and not told yet.
    refused: BTreeSet<u64>,
    ended: Option<Error>,
}

impl Events for Confirms {
    fn confirmed(&self, tag: u64, multiple: bool, taken: bool) {
        let mut state = self.state.lock();
        let first = if multiple { state.upto + 1 } else { tag };
        if !taken {
            state.refused.extend(first..=tag);
        }
        if first <= state.upto + 1 {
            state.upto = state.upto.max(tag);
        } else {
            state.beyond.insert(tag);
        }
        let mut upto = state.upto;
        while let Some(next) = state.beyond.first().copied()
            && next <= upto + 1
        {
            state.beyond.pop_first();
            upto = upto.max(next);
        }
        state.upto = upto;
        drop(state);
        self.moved.notify_waiters();
    }

    fn ended(&self, error: Error) {
        self.state.lock().ended.get_or_insert(error);
        self.moved.notify_waiters();
    }
}

impl Confirms {
    /// Waits until everything up to `tag` is settled, as long as some of it is settled within each `limit`.
    pub(crate) async fn wait(&self, tag: u64, limit: Duration) -> Result<()> {
        let mut settled = self.settled(tag);
        loop {
            if let Ok(waited) = timeout(limit, self.settle(tag)).await {
                return waited;
            }
            let before = std::mem::replace(&mut settled, self.settled(tag));
            if settled == before {
                return Err(error::late("waiting for confirmations"));
            }
        }
    }

    async fn settle(&self, tag: u64) -> Result<()> {
        loop {
            // Asked for before the look, so that what comes meanwhile is not missed.
            let moved = self.moved.notified();
            {
                let state = self.state.lock();
                if state.upto >= tag {
                    return Ok(());
                }
                if let Some(error) = &state.ended {
                    return Err(error::again(error));
                }
            }
            moved.await;
        }
    }

    /// How many messages up to `tag` are settled.
    fn settled(&self, tag: u64) -> u64 {
        let state = self.state.lock();
        let beyond = state.beyond.range(..=tag).count() as u64;
        state.upto.min(tag) + beyond
    }

    /// How many messages from `first` on, without a gap, the server has taken; at most `count`.
    fn taken(&self, first: u64, count: usize) -> usize {
        let mut state = self.state.lock();
        let taken = (first..)
            .take(count)
            .take_while(|tag| {
                let settled = *tag <= state.upto || state.beyond.contains(tag);
                settled && !state.refused.contains(tag)
            })
            .count();
        let end = first + count as u64;
        state.refused.retain(|tag| !(first..end).contains(tag));
        taken
    }
}

/// The connection on which everything is published: the server stops reading from it when its memory is short, so
/// nothing else is on it but declarations.
#[derive(Default)]
pub(crate) struct Publisher {
    session: tokio::sync::Mutex<Option<Session>>,
}

pub(crate) struct Session {
    pub(crate) connection: Arc<Connection>,
    channel: Channel,
    confirms: Arc<Confirms>,
    /// How many messages were sent on the channel.
    sent: u64,
}

impl Publisher {
    /// The connection, made if there is none.
    pub(crate) async fn connection(&self, shared: &Shared) -> Result<Arc<Connection>> {
        let mut session = self.lock(shared).await?;
        let session = open(shared, &mut session).await?;
        Ok(session.connection.clone())
    }

    async fn lock(&self, shared: &Shared) -> Result<tokio::sync::MutexGuard<'_, Option<Session>>> {
        shared.open()?;
        let waiting = timeout(shared.config.timeout, self.session.lock());
        waiting
            .await
            .map_err(|_| error::late("waiting for others who publish"))
    }

    pub(crate) async fn close(&self, limit: Duration) {
        let Ok(mut session) = timeout(limit, self.session.lock()).await else {
            return;
        };
        if let Some(session) = session.take() {
            let last = session.confirms.wait(session.sent, limit).await;
            if last.is_err() {
                tracing::warn!("the server did not confirm in time what was published last");
            }
            session.connection.close().await;
        }
    }
}

async fn open<'a>(shared: &Shared, slot: &'a mut Option<Session>) -> Result<&'a mut Session> {
    let is_open = |session: &Session| session.connection.is_open() && session.channel.is_open();
    let session = match slot.take().filter(is_open) {
        Some(session) => session,
        None => {
            let connection = Connection::open(&shared.config).await?;
            let confirms = Arc::new(Confirms::default());
            let channel = connection.channel(confirms.clone()).await?;
            channel.confirm().await?;
            Session {
                connection: Arc::new(connection),
                channel,
                confirms,
                sent: 0,
            }
        }
    };
    Ok(slot.insert(session))
}

/// Publishes a batch.
pub(crate) async fn publish(shared: &Shared, batch: &[Envelope]) -> Result<(), PublishError> {
    look_ahead(shared, batch).await;
    let sent = send_all(shared, batch).await;
    let sent = sent.map_err(|error| PublishError { accepted: 0, error })?;
    // Others may send while this one waits.
    let (first, count) = (sent.first, sent.count);
    let last = first + count as u64 - 1;
    let waited = sent.confirms.wait(last, shared.config.timeout).await;
    let accepted = sent.confirms.taken(first, count);
    let error = match (waited, sent.refused) {
        (Err(error), _) if accepted < count => {
            // Perhaps something was deleted that was there: what, the next attempt will find.
            shared.topics.forget();
            let message = "the server did not confirm what was sent";
            Error::unavailable("rabbitmq_unconfirmed", message)
                .with_retry(Retry::Unknown)
                .with_source(error)
        }
        _ if accepted < count => {
            let message = "the server refused a message: a queue is full";
            Error::unavailable("rabbitmq_refused", message)
        }
        (_, Some(error)) => error,
        _ => return Ok(()),
    };
    Err(PublishError { accepted, error })
}

/// Waits for topics that another is just making before it is this batch's turn: others need not wait with it. What can't
/// be found is told when the event's turn comes.
async fn look_ahead(shared: &Shared, batch: &[Envelope]) {
    let mut last = None;
    for event in batch {
        if last.replace(&event.topic) == Some(&event.topic)
            || shared.topics.known(&event.topic).is_some()
        {
            continue;
        }
        let Ok(connection) = shared.publisher.connection(shared).await else {
            return;
        };
        let patience = shared.config.timeout;
        let found = shared.topics.find(&connection, &event.topic, patience);
        if found.await.is_err() {
            return;
        }
    }
}

/// What was sent of a batch.
struct Sent {
    confirms: Arc<Confirms>,
    first: u64,
    count: usize,
    /// Why the rest was not.
    refused: Option<Error>,
}

async fn send_all(shared: &Shared, batch: &[Envelope]) -> Result<Sent> {
    let mut slot = shared.publisher.lock(shared).await?;
    let session = open(shared, &mut slot).await?;
    if let Some(reason) = session.connection.blocked() {
        let message = "the server is short of memory or disk and takes nothing";
        return Err(Error::unavailable("rabbitmq_blocked", message).with("reason", reason));
    }
    let mut sent = Sent {
        confirms: session.confirms.clone(),
        first: session.sent + 1,
        count: 0,
        refused: None,
    };
    for event in batch {
        if let Err(error) = send(shared, session, event).await {
            sent.refused = Some(error);
            break;
        }
        session.sent += 1;
        sent.count += 1;
    }
    Ok(sent)
}

async fn send(shared: &Shared, session: &Session, event: &Envelope) -> Result<()> {
    let topics = &shared.topics;
    let finding = topics.find(&session.connection, &event.topic, Duration::ZERO);
    let partitions = finding.await?;
    let written = event::write(shared.config.form, event, shared.config.event_bytes_max)?;
    let partition = partition_of(event.order_key(), partitions);
    let key = format!("{partition}.{}", event.event_type);
    if key.len() > KEY_BYTES_MAX {
        let message = "expected an event's type of at most 249 bytes";
        return Err(Error::invalid("event_type_too_long", message).with("found", &event.event_type));
    }
    let properties = Properties {
        content_type: written.content_type.as_deref(),
        headers: &written.headers,
        correlation_id: Some(&event.correlation_id),
        message_id: Some(&event.id),
        timestamp: u64::try_from(event.time.as_second()).ok(),
        kind: Some(&event.event_type),
    };
    session.channel.room().await?;
    let exchange = topics.exchange(&event.topic);
    session
        .channel
        .publish(&exchange, &key, &properties, &written.body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn confirmations_in_any_order_give_the_prefix_that_was_taken() {
        let confirms = Confirms::default();
        let limit = Duration::from_secs(5);
        confirms.confirmed(3, false, true);
        confirms.confirmed(1, false, true);
        assert_eq!(confirms.taken(1, 4), 1);
        confirms.confirmed(2, false, true);
        assert_eq!(confirms.taken(1, 4), 3);
        confirms.wait(3, limit).await.unwrap();
        confirms.confirmed(6, true, true);
        confirms.wait(6, limit).await.unwrap();
        assert_eq!(confirms.taken(4, 3), 3);
        confirms.confirmed(8, false, false);
        confirms.confirmed(7, false, true);
        confirms.confirmed(9, false, true);
        confirms.wait(9, limit).await.unwrap();
        assert_eq!(confirms.taken(7, 3), 1, "the second was refused");
        confirms.ended(error::closed());
        confirms.wait(9, limit).await.unwrap();
        let error = confirms.wait(10, limit).await.unwrap_err();
        assert_eq!(error.code(), "transport_closed");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_confirmation_waits_no_longer_than_the_limit() {
        let confirms = Confirms::default();
        let error = confirms.wait(1, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(
            (error.code(), error.retry()),
            ("rabbitmq_timeout", Retry::Unknown)
        );
    }
}
