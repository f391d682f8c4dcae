//! What a handle asks of the loop.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use trunkline_core::Result;

use super::actor::{Actor, Phase};
use super::item::Key;
use super::lanes::KeyState;
use super::parked::answer;
use super::{SubscriptionState, SubscriptionStatus};

pub(super) enum Command {
    Pause(oneshot::Sender<()>),
    Resume(oneshot::Sender<()>),
    Status(oneshot::Sender<SubscriptionStatus>),
    Drain {
        limit: Duration,
        done: oneshot::Sender<Result<()>>,
    },
    /// Asks the lot whether a key is still parked.
    Ask {
        key: Key,
        done: oneshot::Sender<()>,
    },
}

impl Actor {
    pub(super) async fn obey(&mut self, command: Command) {
        match command {
            Command::Pause(done) => {
                if matches!(self.phase, Phase::Running) {
                    self.phase = Phase::Paused;
                    self.lag_at = Some(Instant::now());
                }
                answer(done, ());
            }
            Command::Resume(done) => {
                if matches!(self.phase, Phase::Paused) {
                    self.phase = Phase::Running;
                }
                answer(done, ());
            }
            Command::Status(to) => {
                let status = self.status().await;
                answer(to, status);
            }
            Command::Drain { limit, done } => self.drain(limit, done),
            Command::Ask { key, done } => {
                self.hear_all();
                match self.phase {
                    Phase::Running | Phase::Paused => self.arrivals.ask(key, done),
                    _ => answer(done, ()),
                }
            }
        }
    }

    fn drain(&mut self, limit: Duration, done: oneshot::Sender<Result<()>>) {
        match &mut self.phase {
            Phase::Stopped => answer(done, Ok(())),
            Phase::Draining { waiters, .. } => waiters.push(done),
            Phase::Running | Phase::Paused => {
                let until = Instant::now() + limit.min(DRAIN_MAX);
                self.phase = Phase::Draining {
                    until,
                    waiters: vec![done],
                };
                for class in 0..self.lanes.all.len() {
                    self.dismiss(class);
                    if let Some(lane) = self.lanes.get(class) {
                        lane.clear_waiting();
                    }
                }
                self.retries.clear();
                self.lag_at = None;
            }
        }
    }

    async fn status(&mut self) -> SubscriptionStatus {
        let lag = self.lag().await;
        let lanes = &self.lanes.all;
        let down = lanes.iter().any(|lane| lane.source.is_down());
        let state = match self.phase {
            Phase::Stopped => SubscriptionState::Stopped,
            Phase::Draining { .. } => SubscriptionState::Draining,
            Phase::Paused => SubscriptionState::Paused,
            Phase::Running if down => SubscriptionState::Reconnecting,
            Phase::Running => SubscriptionState::Running,
        };
        let keys = || lanes.iter().flat_map(|lane| lane.keys.values());
        let waiting: usize = keys().map(|queue| queue.waiting.len()).sum();
        let queued = waiting + self.arrivals.count();
        let retrying = |state: &KeyState| matches!(state, KeyState::Retrying { .. });
        let held: usize = lanes.iter().map(|lane| lane.held).sum();
        SubscriptionStatus {
            group: self.config.group.clone(),
            service: self.config.service.clone(),
            topics: lanes
                .iter()
                .flat_map(|lane| lane.source.spec.topics.clone())
                .collect(),
            state,
            lag: lag.filter(|_| state != SubscriptionState::Stopped),
            in_flight: held
                .saturating_sub(queued)
                .saturating_sub(self.parked.pending()),
            queued,
            retrying_keys: keys().filter(|queue| retrying(&queue.state)).count(),
            parked_keys: self.parked.len(),
            handled: self.counts.handled,
            failed: self.counts.failed,
            parked: self.counts.parked,
        }
    }
}

/// The longest time to drain: beyond it, the sum with the present would overflow.
const DRAIN_MAX: Duration = Duration::from_secs(86_400);
