//! What becomes of events when their call has ended.

use tokio::time::Instant;
use trunkline_core::{Error, Retry, report};

use super::actor::{Actor, Phase};
use super::call::{Called, Ended, silent};
use super::item::{Item, Key};
use super::lanes::KeyState;
use super::parked::{Batch, Held, Kept};
use crate::Outcome;

impl Actor {
    pub(super) fn settle(&mut self, called: Called) {
        let Called {
            class,
            envelopes,
            metas,
            runs,
            ended,
            took,
        } = called;
        if let Some(lane) = self.lanes.get(class) {
            lane.calls -= 1;
        }
        self.meters.called(&envelopes, &ended, took);
        let whole = envelopes.len();
        let items = envelopes
            .into_iter()
            .zip(metas)
            .map(|(mut envelope, meta)| {
                envelope.trace = meta.trace;
                Item { envelope, meta }
            });
        let mut outcomes = match ended {
            Ended::Outcomes(outcomes) => outcomes.into_iter(),
            Ended::Broken(error) if whole == 1 => vec![Outcome::Failed(error)].into_iter(),
            Ended::Broken(error) => return self.take_apart(class, runs, items.collect(), &error),
        };
        let mut items = items;
        for (key, count) in runs {
            let mut rest = Vec::new();
            let mut failure = None;
            for item in items.by_ref().take(count) {
                match outcomes.next().unwrap_or_else(silent) {
                    Outcome::Done => self.done(class, item),
                    Outcome::Failed(error) => {
                        failure.get_or_insert(error);
                        rest.push(item);
                    }
                    Outcome::Blocked => {
                        let wrong =
                            || Error::internal("blocked, but nothing of its key had failed");
                        failure.get_or_insert_with(wrong);
                        rest.push(item);
                    }
                }
            }
            self.conclude(class, key, rest, failure);
        }
    }

    fn done(&mut self, class: usize, item: Item) {
        self.counts.handled += 1;
        if let Some(lane) = self.lanes.get(class) {
            lane.held -= 1;
        }
        item.meta.receipt.ack();
    }

    /// A batch ended without saying which event was at fault: each runs again, alone.
    fn take_apart(
        &mut self,
        class: usize,
        runs: Vec<(Key, usize)>,
        items: Vec<Item>,
        error: &Error,
    ) {
        tracing::warn!(
            service = %self.config.service, group = %self.config.group, events = items.len(),
            error = %report(error), "a batch failed as a whole; its events are handled one by one"
        );
        let mut items = items.into_iter().map(|mut item| {
            item.meta.alone = true;
            item
        });
        for (key, count) in runs {
            let rest = items.by_ref().take(count).collect();
            self.conclude(class, key, rest, None);
        }
    }

    /// Ends a key's run: `rest` is what was not done, `failure` why its first failed, if it was tried.
    fn conclude(&mut self, class: usize, key: Key, rest: Vec<Item>, failure: Option<Error>) {
        let ends = matches!(self.phase, Phase::Draining { .. } | Phase::Stopped);
        let Some(lane) = self.lanes.get(class) else {
            return;
        };
        let links = lane.source.links;
        let is_lost = rest.first().is_some_and(|item| item.meta.link != links);
        if ends || is_lost {
            // Not a dead letter: it goes back to the transport as if it had not been tried; or it is
            // there already, with the subscription that it came by, and another member may have it.
            lane.held -= rest.len();
            lane.release(key.clone());
            if !ends && self.parked.contains(&key) {
                self.park(class, &key);
            }
            return;
        }
        let Some(error) = failure else {
            lane.put_back(&key, rest);
            lane.release(key.clone());
            if self.parked.contains(&key) {
                self.park(class, &key);
            }
            return;
        };
        self.counts.failed += 1;
        self.fail(class, key, rest, error);
    }

    fn fail(&mut self, class: usize, key: Key, mut rest: Vec<Item>, error: Error) {
        let Some(first) = rest.first_mut() else {
            return;
        };
        first.meta.attempts = first.meta.attempts.saturating_add(1);
        let attempts = first.meta.attempts;
        let used_up =
            attempts >= self.config.retry.attempts_max && !(self.config.blameless)(&error);
        let gives_up = error.retry() == Retry::Permanent || used_up;
        let retry = &self.config.retry;
        let pause = retry.pause_after(attempts, &error, &self.ports.env);
        tracing::warn!(
            service = %self.config.service, group = %self.config.group,
            event_type = %first.envelope.event_type, event_id = %first.envelope.id,
            correlation_id = %first.envelope.correlation_id,
            trace_id = first.envelope.trace.map(|t| format!("{:032x}", t.trace_id)),
            attempts, parks = gives_up, pause = ?(!gives_up).then_some(pause),
            error = %report(&error), "an event could not be handled"
        );
        self.meters.failed(&first.envelope, gives_up);
        let Some(lane) = self.lanes.get(class) else {
            return;
        };
        lane.put_back(&key, rest);
        lane.keys_running -= 1;
        self.retries_made += 1;
        let due = (Instant::now() + pause, self.retries_made);
        let successes = self.counts.handled;
        if let Some(queue) = lane.keys.get_mut(&key) {
            queue.state = KeyState::Retrying {
                due,
                successes,
                error,
            };
        }
        self.retries.insert(due, (class, key.clone()));
        if gives_up || self.parked.contains(&key) {
            self.park(class, &key);
        }
    }

    /// Parks what is held of a key and is not being handled: the events of `first`'s lane, then the
    /// others'. An event that waited to be tried again keeps its error.
    fn park(&mut self, first: usize, key: &Key) {
        let others = (0..self.lanes.all.len()).filter(|class| *class != first);
        for class in std::iter::once(first).chain(others) {
            self.evict(class, key, true);
        }
        self.meters.parked_keys(self.parked.len());
    }

    /// Parks what is held of a key that another member has parked: all of it waits behind that.
    pub(super) fn park_behind(&mut self, key: &Key) {
        for class in 0..self.lanes.all.len() {
            self.evict(class, key, false);
        }
    }

    fn evict(&mut self, class: usize, key: &Key, with_error: bool) {
        let Some(lane) = self.lanes.get(class) else {
            return;
        };
        let (items, failed) = lane.evict(key);
        let mut error = failed.and_then(|(due, error)| {
            self.retries.remove(&due);
            with_error.then_some(error)
        });
        for item in items {
            self.park_item(item, class, error.take().as_ref());
        }
    }

    /// The lot has a batch: its events are acknowledged, and those that have nothing to wait behind are
    /// handled.
    pub(super) fn kept(&mut self, batch: Batch, free: Vec<Key>) {
        let Kept { settled, free } = self.parked.kept(batch, free);
        for Held { meta, class } in settled {
            if let Some(lane) = self.lanes.get(class) {
                lane.held = lane.held.saturating_sub(1);
            }
            meta.receipt.ack();
        }
        let ends = matches!(self.phase, Phase::Draining { .. } | Phase::Stopped);
        for (item, class) in free {
            let Some(lane) = self.lanes.get(class) else {
                continue;
            };
            self.counts.parked -= 1;
            if ends || item.meta.link != lane.source.links {
                lane.held -= 1;
            } else {
                lane.push(item);
            }
        }
        self.meters.parked_keys(self.parked.len());
    }

    /// Parks one event, unless it is another member's by now.
    pub(super) fn park_item(&mut self, item: Item, class: usize, error: Option<&Error>) {
        if item.meta.receipt.begin() {
            self.counts.parked += 1;
            self.parked.push(item, class, error, &self.ports.env);
        } else if let Some(lane) = self.lanes.get(class) {
            lane.held -= 1;
        }
    }

    /// When what waits behind failed events leaves no room, and others flow, the key with the longest
    /// queue is parked before its attempts are used up: it must not hold back the rest.
    pub(super) fn unclog(&mut self) {
        for class in 0..self.lanes.all.len() {
            let successes = self.counts.handled;
            let Some(lane) = self.lanes.get(class) else {
                continue;
            };
            if lane.is_clogged()
                && let Some(key) = lane.longest_retrying(successes)
            {
                tracing::warn!(
                    service = %self.config.service, group = %self.config.group,
                    "too many events wait behind a failed one: its key is parked early"
                );
                self.park(class, &key);
            }
        }
    }
}
