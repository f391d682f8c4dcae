//! A subscription at run time: its cursors, and what waits on them.

use std::collections::HashMap;
use std::sync::Arc;

use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Duration, Instant};
use trunkline_bus::{Delivery, Receipt, Settlement, Settler};
use trunkline_core::{Error, Result};

use crate::cursor::{Cursor, Taken};
use crate::error;
use crate::id::Id;
use crate::topics::Topic;

/// How long what is out may be unknown to the server: a member that dies sooner after a delivery is not
/// seen in the event's count.
pub(crate) const UNCOUNTED_MAX: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Member {
    /// Its name: nobody else ever has it.
    pub(crate) name: ByteString,
    /// None for a reader.
    pub(crate) group: Option<ByteString>,
    pub(crate) topics: Vec<Joined>,
    /// How many entries are fetched ahead, about.
    pub(crate) prefetch: usize,
    pub(crate) state: Mutex<State>,
    /// Something may be taken, or it ended.
    pub(crate) ready: Notify,
    /// Something is to be fetched, released or ended.
    pub(crate) work: Notify,
    /// Something was delivered or settled.
    pub(crate) settled: Notify,
    /// One writing of settlements at a time.
    pub(crate) writing: tokio::sync::Mutex<()>,
    /// Whether it has left.
    pub(crate) gone: watch::Sender<bool>,
}

/// A topic, and where its cursors are.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) topic: Arc<Topic>,
    pub(crate) first: usize,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) cursors: Vec<Cursor>,
    in_flight_max: usize,
    out: usize,
    /// What receipts stand for: cursor, tenure, entry.
    tokens: HashMap<u64, (usize, u64, Id)>,
    last_token: u64,
    /// The cursor that is asked first.
    turn: usize,
    /// Since when something is out that the server does not know of.
    uncounted_since: Option<Instant>,
    end: Option<End>,
}

/// Why nothing more is delivered.
#[derive(Debug)]
pub(crate) enum End {
    /// The transport was closed.
    Closed,
    /// The subscription was dropped.
    Dropped,
    Failed(Error),
}

impl Member {
    pub(crate) fn new(
        name: ByteString,
        group: Option<ByteString>,
        topics: Vec<Arc<Topic>>,
        in_flight_max: usize,
    ) -> Self {
        let mut cursors = Vec::new();
        let mut joined = Vec::with_capacity(topics.len());
        for topic in topics {
            let first = cursors.len();
            for (partition, stream) in (0..).zip(&topic.places) {
                cursors.push(Cursor::new(topic.name.clone(), partition, stream.clone()));
            }
            joined.push(Joined { topic, first });
        }
        Self {
            name,
            group,
            topics: joined,
            prefetch: in_flight_max.clamp(16, 1000),
            state: Mutex::new(State {
                cursors,
                in_flight_max,
                out: 0,
                tokens: HashMap::new(),
                last_token: 0,
                turn: 0,
                uncounted_since: None,
                end: None,
            }),
            ready: Notify::new(),
            work: Notify::new(),
            settled: Notify::new(),
            writing: tokio::sync::Mutex::new(()),
            gone: watch::Sender::new(false),
        }
    }

    /// Takes at least one delivery and at most `max`. Empty when the transport was closed.
    pub(crate) async fn next(self: &Arc<Self>, max: usize) -> Result<Vec<Delivery>> {
        loop {
            let taken = {
                let mut state = self.state.lock();
                match &state.end {
                    Some(End::Closed | End::Dropped) => return Ok(Vec::new()),
                    Some(End::Failed(error)) => return Err(error::again(error)),
                    None => self.take(&mut state, max),
                }
            };
            if !taken.is_empty() {
                self.settled.notify_one();
                return Ok(taken);
            }
            self.ready.notified().await;
        }
    }

    fn take(self: &Arc<Self>, state: &mut State, max: usize) -> Vec<Delivery> {
        let now = Instant::now();
        let room = state.in_flight_max.saturating_sub(state.out).min(max);
        let mut deliveries = Vec::new();
        let mut taken = Vec::new();
        let (turn, count) = (state.turn, state.cursors.len());
        for step in 0..count {
            let index = (turn + step) % count;
            let room = room - deliveries.len();
            let Some(cursor) = state.cursors.get_mut(index).filter(|_| room > 0) else {
                break;
            };
            cursor.take(room, now, &mut taken);
            let (partition, tenure) = (cursor.partition, cursor.tenure);
            if cursor.is_due(now) || (cursor.wants(self.prefetch) && !cursor.reading) {
                self.work.notify_one();
            }
            if !taken.is_empty() {
                state.turn = index + 1;
            }
            for one in taken.drain(..) {
                state.last_token += 1;
                let token = state.last_token;
                state.tokens.insert(token, (index, tenure, one.id));
                deliveries.push(self.delivery(token, partition, one));
            }
        }
        state.out += deliveries.len();
        if !deliveries.is_empty() {
            state.uncounted_since.get_or_insert(now);
        }
        deliveries
    }

    fn delivery(self: &Arc<Self>, token: u64, partition: u16, taken: Taken) -> Delivery {
        Delivery {
            envelope: taken.read.envelope,
            offset: taken.id.offset(),
            partition,
            redeliveries: taken.redeliveries,
            unreadable: taken.read.unreadable,
            receipt: Receipt::new(self.clone(), token),
        }
    }

    /// Nothing more is delivered, and what is settled from now on counts for nothing.
    pub(crate) fn end(&self, why: End) {
        self.state.lock().end.get_or_insert(why);
        self.ready.notify_one();
        self.work.notify_one();
        self.settled.notify_one();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state.lock().end.is_some()
    }

    /// When what is out has to be told to the server.
    pub(crate) fn count_at(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        if !state.cursors.iter().any(Cursor::has_uncounted) {
            state.uncounted_since = None;
        }
        state.uncounted_since.map(|since| since + UNCOUNTED_MAX)
    }

    /// What is out is being told to the server.
    pub(crate) fn counted(&self) {
        self.state.lock().uncounted_since = None;
    }
}

impl State {
    /// Deliveries that were out are another's now.
    pub(crate) fn forget(&mut self, out: usize) {
        self.out -= out;
    }

    fn cursor(&mut self, token: u64) -> Option<(&mut Cursor, Id)> {
        let (index, tenure, id) = self.tokens.get(&token).copied()?;
        let cursor = self.cursors.get_mut(index)?;
        (cursor.tenure == tenure).then_some((cursor, id))
    }
}

impl Settler for Member {
    fn begin(&self, token: u64) -> bool {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return false;
        }
        let now = Instant::now();
        state
            .cursor(token)
            .is_some_and(|(cursor, id)| cursor.begin(id, now))
    }

    fn settle(&self, token: u64, how: Settlement) {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return;
        }
        let now = Instant::now();
        let settled = state
            .cursor(token)
            .map(|(cursor, id)| (cursor.settle(id, how, now), cursor.releasing.is_some()));
        state.tokens.remove(&token);
        let Some((true, releasing)) = settled else {
            return;
        };
        if state.out >= state.in_flight_max {
            self.ready.notify_one();
        }
        state.out -= 1;
        drop(state);
        self.settled.notify_one();
        if releasing || matches!(how, Settlement::Retry(_)) {
            self.work.notify_one();
        }
    }
}
