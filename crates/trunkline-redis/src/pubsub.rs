//! Subscribing to channels: light events, which nobody keeps.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use redis::Msg;
use redis::aio::PubSub;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, interval_at, sleep_until, timeout};
use trunkline_bus::{
    Delivery, Receipt, Settlement, Settler, Start, Subscribe, Subscription, partition_of,
};
use trunkline_core::{Error, ErrorKind, Result};

use crate::entry::Read;
use crate::error;
use crate::subscribe::topics;
use crate::topics::Topic;
use crate::transport::{Redis, Shared};

/// Events that wait to be taken or to be delivered again; beyond it, the oldest are dropped.
const WAITING_MAX: usize = 10_000;
/// Bytes of the same.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// The longest pause: beyond it, the sum with the present would overflow.
const PAUSE_MAX: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Who listens.
struct Listener {
    heard: Mutex<State>,
    in_flight_max: usize,
    /// Something may be taken, or it ended.
    ready: Notify,
    ended: Notify,
}

#[derive(Default)]
struct State {
    last: u64,
    /// What can be taken, in the order in which it came.
    waiting: BTreeMap<u64, Heard>,
    /// Returned, by when it is due.
    later: BTreeMap<(Instant, u64), Heard>,
    out: HashMap<u64, Heard>,
    bytes: usize,
    dropped: u64,
    end: Option<Option<Error>>,
}

struct Heard {
    read: Read,
    partition: u16,
    tries: u32,
}

pub(crate) struct LightSubscription(Arc<Listener>);

/// Listens to the topics' channels from now on.
pub(crate) async fn subscribe(redis: &Redis, spec: &Subscribe) -> Result<LightSubscription> {
    let shared = redis.shared();
    let topics = topics(shared, spec).await?;
    let missing = |what, message| Err(Error::new(ErrorKind::Unsupported, what, message));
    if spec.group.is_some() {
        return missing(
            "groups_unsupported",
            "Pub/Sub has no groups; expected none, or Streams",
        );
    }
    if !matches!(spec.start, Start::Committed | Start::Latest) {
        return missing(
            "replay_unsupported",
            "Pub/Sub keeps nothing; expected Start::Latest, or Streams",
        );
    }
    let doing = "channels could not be subscribed to";
    let mut connection = shared.link.listen().await?;
    let channels: Vec<&str> = topics.iter().filter_map(|topic| channel(topic)).collect();
    timeout(shared.link.timeout(), connection.subscribe(channels))
        .await
        .map_err(|_| error::late(doing))?
        .map_err(|e| shared.link.placed(error::redis(doing, e)))?;
    let listener = Arc::new(Listener {
        heard: Mutex::default(),
        in_flight_max: spec.in_flight_max,
        ready: Notify::new(),
        ended: Notify::new(),
    });
    redis.spawn(listen(shared.clone(), listener.clone(), topics, connection))?;
    Ok(LightSubscription(listener))
}

fn channel(topic: &Arc<Topic>) -> Option<&str> {
    topic.places.first().map(|place| &**place)
}

/// Takes in what comes until the listener ends, the connection breaks or the transport closes.
async fn listen(
    shared: Arc<Shared>,
    listener: Arc<Listener>,
    topics: Vec<Arc<Topic>>,
    connection: PubSub,
) {
    let (mut sink, mut messages) = connection.split();
    let every = shared.config.takeover;
    let mut pulse = interval_at(Instant::now() + every, every);
    let why = loop {
        tokio::select! {
            biased;
            () = shared.until_closed() => break None,
            () = listener.ended.notified() => break None,
            message = messages.next() => match message {
                Some(message) => listener.hear(&shared, &topics, &message),
                None => {
                    let lost = "the connection to the server was lost; what came meanwhile is lost too";
                    break Some(Error::unavailable("redis_unreachable", lost));
                }
            },
            // A server that is gone without a word is found out.
            _ = pulse.tick() => {
                let doing = "the server does not answer";
                match timeout(shared.link.timeout(), sink.ping::<redis::Value>()).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(e)) => break Some(error::redis(doing, e)),
                    Err(_) => break Some(error::late(doing)),
                }
            }
        }
    };
    listener.end(why.map(|error| shared.link.placed(error)));
}

impl Listener {
    fn hear(&self, shared: &Shared, topics: &[Arc<Topic>], message: &Msg) {
        let name = message.get_channel_name();
        let Some(topic) = topics.iter().find(|topic| channel(topic) == Some(name)) else {
            return;
        };
        let mut state = self.heard.lock();
        state.last += 1;
        let number = state.last;
        let body = message.get_payload_bytes().to_vec().into();
        let place = || format!("{}/{number}", topic.name);
        let read = shared.reader.payload(&topic.name, body, place);
        state.bytes += read.envelope.data.len();
        let heard = Heard {
            partition: partition_of(read.envelope.order_key(), topic.partitions),
            read,
            tries: 0,
        };
        state.waiting.insert(number, heard);
        state.shed(&topic.name);
        drop(state);
        self.ready.notify_one();
    }

    fn take(self: &Arc<Self>, state: &mut State, max: usize) -> Vec<Delivery> {
        let now = Instant::now();
        while let Some(first) = state
            .later
            .first_entry()
            .filter(|first| first.key().0 <= now)
        {
            let ((_, number), heard) = first.remove_entry();
            state.waiting.insert(number, heard);
        }
        let room = self.in_flight_max.saturating_sub(state.out.len()).min(max);
        let mut deliveries = Vec::new();
        while deliveries.len() < room
            && let Some((number, mut heard)) = state.waiting.pop_first()
        {
            deliveries.push(Delivery {
                envelope: heard.read.envelope.clone(),
                offset: number,
                partition: heard.partition,
                redeliveries: heard.tries,
                unreadable: heard.read.unreadable.as_ref().map(error::again),
                receipt: Receipt::new(self.clone(), number),
            });
            heard.tries = heard.tries.saturating_add(1);
            state.bytes -= heard.read.envelope.data.len();
            state.out.insert(number, heard);
        }
        deliveries
    }

    async fn next(self: &Arc<Self>, max: usize) -> Result<Vec<Delivery>> {
        loop {
            let due = {
                let mut state = self.heard.lock();
                match &state.end {
                    Some(None) => return Ok(Vec::new()),
                    Some(Some(error)) => return Err(error::again(error)),
                    None => {}
                }
                let taken = self.take(&mut state, max);
                if !taken.is_empty() {
                    return Ok(taken);
                }
                let full = state.out.len() >= self.in_flight_max;
                let due = state.later.first_key_value().map(|((due, _), _)| *due);
                due.filter(|_| !full)
            };
            tokio::select! {
                biased;
                () = self.ready.notified() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    fn end(&self, why: Option<Error>) {
        self.heard.lock().end.get_or_insert(why);
        self.ready.notify_one();
        self.ended.notify_one();
    }
}

impl State {
    /// Drops the oldest of what waits, while it is too much.
    fn shed(&mut self, topic: &ByteString) {
        while self.waiting.len() + self.later.len() > WAITING_MAX || self.bytes > WAITING_BYTES_MAX
        {
            let oldest = self.waiting.pop_first().map(|(_, heard)| heard);
            let Some(heard) = oldest.or_else(|| self.later.pop_first().map(|(_, heard)| heard))
            else {
                return;
            };
            self.bytes -= heard.read.envelope.data.len();
            self.dropped += 1;
            if self.dropped.is_power_of_two() {
                tracing::warn!(
                    %topic, dropped = self.dropped,
                    "light events come faster than they are handled; the oldest are dropped"
                );
            }
        }
    }
}

impl Settler for Listener {
    fn settle(&self, token: u64, how: Settlement) {
        let mut state = self.heard.lock();
        let Some(heard) = state.out.remove(&token) else {
            return;
        };
        if let Settlement::Retry(pause) = how {
            let due = Instant::now() + pause.min(PAUSE_MAX);
            state.bytes += heard.read.envelope.data.len();
            let topic = heard.read.envelope.topic.clone();
            state.later.insert((due, token), heard);
            state.shed(&topic);
        }
        drop(state);
        self.ready.notify_one();
    }
}

impl Subscription for LightSubscription {
    fn next<'a>(&'a mut self, max: usize) -> BoxFuture<'a, Result<Vec<Delivery>>> {
        self.0.next(max.max(1)).boxed()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        // There is nothing to write.
        std::future::ready(Ok(())).boxed()
    }

    fn lag(&self) -> BoxFuture<'_, Result<u64>> {
        let state = self.0.heard.lock();
        let lag = state.waiting.len() + state.later.len() + state.out.len();
        std::future::ready(Ok(lag as u64)).boxed()
    }
}

impl Drop for LightSubscription {
    fn drop(&mut self) {
        self.0.end(None);
    }
}

impl fmt::Debug for LightSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LightSubscription").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use trunkline_testkit::event;

    use super::*;

    fn hear(state: &mut State, data: &str) {
        state.last += 1;
        let heard = Heard {
            read: Read {
                envelope: event("t", "k", "id", data.to_owned()),
                unreadable: None,
            },
            partition: 0,
            tries: 0,
        };
        state.bytes += data.len();
        state.waiting.insert(state.last, heard);
        state.shed(&"t".into());
    }

    #[test]
    fn what_waits_is_bounded_and_the_oldest_is_dropped() {
        let mut state = State::default();
        (0..WAITING_MAX + 3).for_each(|_| hear(&mut state, "1"));
        assert_eq!((state.waiting.len(), state.dropped), (WAITING_MAX, 3));
        assert_eq!(
            state.waiting.first_key_value().map(|(number, _)| *number),
            Some(4)
        );
        assert_eq!(state.bytes, WAITING_MAX);
        let large = "x".repeat(WAITING_BYTES_MAX - 1);
        hear(&mut state, &large);
        assert_eq!((state.waiting.len(), state.bytes), (2, WAITING_BYTES_MAX));
        hear(&mut state, "22");
        hear(&mut state, &large);
        assert_eq!(state.waiting.len(), 1, "the newest stays");
    }
}
