//! What a subscription, its receipts and its keeper share.

mod settle;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::consumer::pull;
use bytestring::ByteString;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use trunkline_bus::{Delivery, Receipt, unreadable};
use trunkline_core::{Error, Form, Result};

use crate::cursor::{Arrived, Cursor, Place, Taken};
use crate::{error, wire};

/// A consumer that a member reads: a partition of a group's topic, or a whole topic without a group.
pub(crate) struct Source {
    /// Which of the member's topics it is.
    pub(crate) topic: usize,
    /// None where the consumer is of all partitions.
    pub(crate) partition: Option<u16>,
    pub(crate) stream: pull::Stream,
    pub(crate) cursor: Cursor,
    /// Since when another member shall have it.
    pub(crate) moving: Option<Instant>,
}

/// What does not change about a member.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) topics: Vec<ByteString>,
    pub(crate) form: Form,
    pub(crate) in_flight_max: usize,
    /// How many deliveries a cursor may span.
    pub(crate) span_max: usize,
    /// Whether the server is told what is settled.
    pub(crate) acks: bool,
}

pub(crate) struct Member {
    pub(crate) terms: Terms,
    state: Mutex<State>,
    /// Wakes `next`.
    pub(crate) wake: Notify,
    /// Wakes the keeper.
    pub(crate) work: Notify,
}

#[derive(Default)]
struct State {
    sources: BTreeMap<u64, Source>,
    last_number: u64,
    /// The source that is looked at first.
    first: u64,
    /// Until when the member has its partitions, for each topic; none where nothing is leased.
    valid_until: Vec<Option<Instant>>,
    out: usize,
    end: End,
    /// What the server is to deliver again after a pause.
    away: Vec<(Subject, Duration)>,
    /// The keeper knows that there is something to do.
    told: bool,
}

#[derive(Default)]
enum End {
    #[default]
    No,
    Closed,
    Left,
    Failed(Option<Error>),
}

/// A token is a source and an index in its cursor.
const INDEX_BITS: u32 = 40;

impl Member {
    pub(crate) fn new(terms: Terms) -> Self {
        let state = State {
            valid_until: vec![None; terms.topics.len()],
            ..State::default()
        };
        Self {
            terms,
            state: Mutex::new(state),
            wake: Notify::new(),
            work: Notify::new(),
        }
    }

    pub(crate) fn open(&self, source: Source) {
        let mut state = self.state.lock();
        if matches!(state.end, End::Failed(_)) {
            return;
        }
        state.last_number += 1;
        let number = state.last_number;
        state.sources.insert(number, source);
        drop(state);
        self.wake.notify_one();
    }

    /// The topic's partitions are this member's until then.
    pub(crate) fn lease(&self, topic: usize, until: Instant) {
        if let Some(valid_until) = self.state.lock().valid_until.get_mut(topic) {
            *valid_until = Some(until);
        }
    }

    /// Ends it: `next` tells why, once.
    pub(crate) fn fail(&self, error: Error) {
        let mut state = self.state.lock();
        if matches!(state.end, End::No) {
            state.end = End::Failed(Some(error));
        } else if matches!(state.end, End::Left) {
            state.end = End::Failed(None);
        }
        state.sources.clear();
        drop(state);
        self.wake.notify_one();
        self.work.notify_one();
    }

    /// The transport closes.
    pub(crate) fn close(&self) {
        self.finish(End::Closed);
    }

    /// The subscription was dropped.
    pub(crate) fn leave(&self) {
        self.finish(End::Left);
    }

    fn finish(&self, end: End) {
        let mut state = self.state.lock();
        if matches!(state.end, End::No) {
            state.end = end;
        }
        drop(state);
        self.wake.notify_one();
        self.work.notify_one();
    }

    pub(crate) fn is_failed(&self) -> bool {
        matches!(self.state.lock().end, End::Failed(_))
    }

    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.state.lock().end, End::Closed | End::Left)
    }

    /// Looks at every source, or at those of a topic.
    pub(crate) fn each<T>(&self, mut look: impl FnMut(&mut Source) -> Option<T>) -> Vec<T> {
        let mut state = self.state.lock();
        state.sources.values_mut().filter_map(&mut look).collect()
    }

    /// Takes sources away; their deliveries are no longer the member's.
    pub(crate) fn remove(&self, mut which: impl FnMut(&Source) -> bool) -> Vec<Source> {
        let mut state = self.state.lock();
        let numbers = state.sources.iter().filter(|(_, source)| which(source));
        let numbers: Vec<u64> = numbers.map(|(number, _)| *number).collect();
        let removed: Vec<Source> = numbers
            .iter()
            .filter_map(|number| state.sources.remove(number))
            .collect();
        let out: usize = removed.iter().map(|source| source.cursor.out()).sum();
        state.out -= out;
        drop(state);
        self.wake.notify_one();
        removed
    }

    /// What the server is to be told: how far all is settled, and what it shall deliver again when.
    pub(crate) fn untold(&self) -> (Vec<Subject>, Vec<(Subject, Duration)>) {
        let mut state = self.state.lock();
        state.told = false;
        let floors = state
            .sources
            .values_mut()
            .filter_map(|source| source.cursor.tell());
        let floors = floors.collect();
        (floors, std::mem::take(&mut state.away))
    }

    /// When to look again, if nothing comes before: a returned delivery is due, or a lease has run out.
    pub(crate) fn due(&self) -> Option<Instant> {
        let state = self.state.lock();
        let full = state.out >= self.terms.in_flight_max;
        let sources = state.sources.values().filter(|_| !full);
        let returned = sources.filter_map(|source| source.cursor.due());
        returned
            .chain(state.valid_until.iter().flatten().copied())
            .min()
    }

    /// Takes what is there.
    pub(crate) fn poll_take(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Result<Vec<Delivery>>> {
        let mut taken = Vec::new();
        let mut state = self.state.lock();
        match &mut state.end {
            End::No => {}
            End::Closed | End::Left => return Poll::Ready(Ok(Vec::new())),
            End::Failed(why) => {
                let again = || error::ended("it failed before");
                return Poll::Ready(Err(why.take().unwrap_or_else(again)));
            }
        }
        let room = self.terms.in_flight_max.saturating_sub(state.out).min(max);
        let looked = state.take(cx, room, self.terms.span_max, &mut taken);
        state.out += taken.len();
        if let Err(error) = looked {
            state.sources.clear();
            if taken.is_empty() {
                state.end = End::Failed(None);
                self.work.notify_one();
                return Poll::Ready(Err(error));
            }
            state.end = End::Failed(Some(error));
            self.work.notify_one();
        }
        drop(state);
        if taken.is_empty() {
            return Poll::Pending;
        }
        let deliver = |(number, topic, one)| self.delivery(number, topic, one);
        Poll::Ready(Ok(taken.into_iter().map(deliver).collect()))
    }

    fn delivery(self: &Arc<Self>, number: u64, topic: usize, taken: Taken) -> Delivery {
        let message = &taken.message;
        let topic = self.terms.topics.get(topic).cloned().unwrap_or_default();
        let partition = message
            .subject
            .rsplit_once('.')
            .and_then(|(_, last)| last.parse().ok());
        let partition = partition.unwrap_or(0);
        let read = wire::read(self.terms.form, &topic, taken.place.at, message);
        let (envelope, unreadable) = match read {
            Ok(envelope) => (envelope, None),
            Err(error) => {
                let place = format!("{topic}/{partition}/{}", taken.place.stream);
                let body = message.payload.clone();
                (unreadable(&topic, place, body, taken.place.at), Some(error))
            }
        };
        Delivery {
            envelope,
            offset: taken.place.stream,
            partition,
            redeliveries: taken.redeliveries,
            unreadable,
            receipt: Receipt::new(self.clone(), number << INDEX_BITS | taken.index),
        }
    }
}

impl State {
    fn take(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
        span_max: usize,
        taken: &mut Vec<(u64, usize, Taken)>,
    ) -> Result<()> {
        let now = Instant::now();
        if self.valid_until.iter().flatten().any(|until| *until <= now) {
            return Err(error::ended("its lease could not be kept"));
        }
        let (before, from) = {
            let mut numbers: Vec<u64> = self.sources.keys().copied().collect();
            let at = numbers.partition_point(|number| *number < self.first);
            let from = numbers.split_off(at);
            (numbers, from)
        };
        for number in from.into_iter().chain(before) {
            if taken.len() >= room {
                // Whoever had no turn is first next time.
                self.first = number;
                return Ok(());
            }
            let Some(source) = self.sources.get_mut(&number) else {
                continue;
            };
            if source.moving.is_some() {
                continue;
            }
            source.take(cx, (room, span_max), now, |topic, one| {
                taken.push((number, topic, one));
                taken.len()
            })?;
        }
        Ok(())
    }

    fn source(&mut self, token: u64) -> Option<(&mut Source, Option<Instant>)> {
        let source = self.sources.get_mut(&(token >> INDEX_BITS))?;
        let until = self.valid_until.get(source.topic).copied().flatten();
        Some((source, until))
    }
}

impl Source {
    /// Takes what is there; `push` says how many that makes.
    fn take(
        &mut self,
        cx: &mut Context<'_>,
        (room, span_max): (usize, usize),
        now: Instant,
        mut push: impl FnMut(usize, Taken) -> usize,
    ) -> Result<()> {
        loop {
            while let Some(again) = self.cursor.take_again(now) {
                if push(self.topic, again) >= room {
                    return Ok(());
                }
            }
            if self.cursor.span() >= span_max {
                return Ok(());
            }
            let message = match self.stream.poll_next_unpin(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Ok(message))) => message.message,
                Poll::Ready(Some(Err(error))) => {
                    return Err(error::ended("its consumer does not deliver").with_source(error));
                }
                Poll::Ready(None) => return Err(error::lost()),
            };
            let place = message.reply.as_deref().and_then(Place::read);
            let place = place.ok_or_else(|| {
                let error = error::ended("a message came without its place in the stream");
                error.with("reply", message.reply.as_deref().unwrap_or_default())
            })?;
            match self.cursor.arrive(place, message, now) {
                Arrived::New(one) => {
                    if push(self.topic, one) >= room {
                        return Ok(());
                    }
                }
                Arrived::Known => {}
                Arrived::Gap => return Err(error::ended("a delivery was lost on its way")),
            }
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}
