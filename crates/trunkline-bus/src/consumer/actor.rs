//! The loop that owns a consumer's state. Everything else (calls of the handler, letters and questions
//! to the lot, subscribing again) runs as jobs beside it and comes back to it.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use trunkline_core::{Error, ErrorKind, Result};

use super::arrivals::{Arrivals, Question};
use super::call::{Called, call};
use super::command::Command;
use super::item::{Item, Key};
use super::lanes::Lanes;
use super::meters::Meters;
use super::parked::{Batch, Parked, answer};
use super::source::Link;
use super::trace::Traced;
use super::{ConsumerConfig, ConsumerPorts};
use crate::{Change, Delivery, Subscription};

pub(super) struct Actor {
    pub(super) config: ConsumerConfig,
    pub(super) ports: ConsumerPorts,
    pub(super) lanes: Lanes,
    pub(super) arrivals: Arrivals,
    pub(super) parked: Parked,
    /// Failed keys by the time of their next attempt.
    pub(super) retries: BTreeMap<(Instant, u64), (usize, Key)>,
    pub(super) retries_made: u64,
    pub(super) phase: Phase,
    pub(super) counts: Counts,
    pub(super) meters: Meters,
    /// When to measure the lag next; only while something happens.
    pub(super) lag_at: Option<Instant>,
    jobs: JoinSet<Job>,
    commands: mpsc::Receiver<Command>,
}

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) handled: u64,
    pub(super) failed: u64,
    pub(super) parked: u64,
}

pub(super) enum Phase {
    Running,
    Paused,
    Draining {
        until: Instant,
        waiters: Vec<oneshot::Sender<Result<()>>>,
    },
    Stopped,
}

enum Job {
    Called(Called),
    Kept(Batch, Result<Vec<Key>>),
    Answered(Question, Result<Vec<Key>>),
    Joined(usize, Result<Box<dyn Subscription>>),
}

enum Event {
    Command(Option<Command>),
    Fetched(usize, Result<Vec<Delivery>>),
    Changed(Change),
    Job(Job),
    Timer,
}

impl Actor {
    pub(super) fn new(
        config: ConsumerConfig,
        ports: ConsumerPorts,
        lanes: Lanes,
        (arrivals, parked): (Arrivals, Parked),
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        let meters = Meters::new(&config);
        Self {
            config,
            ports,
            lanes,
            arrivals,
            parked,
            retries: BTreeMap::new(),
            retries_made: 0,
            phase: Phase::Running,
            counts: Counts::default(),
            meters,
            lag_at: None,
            jobs: JoinSet::new(),
            commands,
        }
    }

    /// Runs until the last handle is dropped; ends what it began by dropping it.
    pub(super) async fn run(mut self) {
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let mut armed = None;
        loop {
            self.begin_work();
            if self.is_drained() {
                self.stop(Ok(())).await;
            }
            let wake = self.next_timer();
            if let Some(at) = wake
                && armed != wake
            {
                timer.as_mut().reset(at);
            }
            armed = wake;
            let takes = matches!(self.phase, Phase::Running);
            let room = self
                .lanes
                .all
                .each_ref()
                .map(|l| if takes { l.room() } else { 0 });
            let [high, medium, low] = &mut self.lanes.all;
            let event = tokio::select! {
                biased;
                command = self.commands.recv() => Event::Command(command),
                got = high.source.next(room[0]) => Event::Fetched(0, got),
                change = self.arrivals.changes.next() => Event::Changed(change),
                Some(Ok(job)) = self.jobs.join_next(), if !self.jobs.is_empty() => Event::Job(job),
                () = &mut timer, if wake.is_some() => Event::Timer,
                got = medium.source.next(room[1]) => Event::Fetched(1, got),
                got = low.source.next(room[2]) => Event::Fetched(2, got),
            };
            match event {
                Event::Command(None) => return,
                Event::Command(Some(command)) => self.obey(command).await,
                Event::Fetched(class, Ok(deliveries)) => self.take_up(class, deliveries),
                Event::Fetched(class, Err(error)) => self.lose(class, &error),
                Event::Changed(change) => self.hear(change),
                Event::Job(job) => self.finish_jobs(job),
                Event::Timer => self.on_timer().await,
            }
        }
    }

    /// Starts what may start: calls of the handler, letters and questions to the lot.
    fn begin_work(&mut self) {
        loop {
            if matches!(self.phase, Phase::Running) {
                while let Some(class) = self.lanes.pick() {
                    self.begin_call(class);
                }
                self.unclog();
            }
            let Some(mut work) = self.next_errand() else {
                return;
            };
            // A lot that need not wait is not waited for: a task for each letter would cost more than the
            // letter. What it answers may be more work.
            match work.as_mut().now_or_never() {
                Some(job) => self.finish_job(job),
                None => drop(self.jobs.spawn(work)),
            }
        }
    }

    /// What there is to do at the lot: to keep letters, or to say what is parked.
    fn next_errand(&mut self) -> Option<BoxFuture<'static, Job>> {
        if !matches!(self.phase, Phase::Running | Phase::Paused) {
            return None;
        }
        let lot = self.ports.lot.clone();
        let panicked = "the parking lot panicked";
        if let Some(batch) = self.parked.take() {
            let work = async move {
                let kept = sound(lot.park(&batch.letters), panicked).await;
                Job::Kept(batch, kept)
            };
            return Some(work.boxed());
        }
        let question = self.next_question()?;
        let group = self.config.group.clone();
        let work = async move {
            let asked = lot.parked_keys(&group, question.keys.as_deref());
            let found = sound(asked, panicked).await;
            Job::Answered(question, found)
        };
        Some(work.boxed())
    }

    fn begin_call(&mut self, class: usize) {
        let batch_max = self.config.batch_max;
        let Some(lane) = self.lanes.get(class) else {
            return;
        };
        let (batch, runs) = lane.take(batch_max);
        let Some(first) = batch.first() else { return };
        lane.calls += 1;
        let attempt = first.meta.attempts.saturating_add(1);
        let handler = self.ports.handler.clone();
        let limit = self.config.handler_timeout;
        let (mut envelopes, metas): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|Item { envelope, meta }| (envelope, meta))
            .unzip();
        let traced = Traced::open(&self.config, &self.ports, &mut envelopes, attempt);
        self.jobs.spawn(async move {
            let scope = traced.scope.clone();
            let work = scope.run(call(&*handler, &envelopes, attempt, limit));
            let (ended, took) = work.await;
            traced.close(&ended);
            Job::Called(Called {
                class,
                envelopes,
                metas,
                runs,
                ended,
                took,
            })
        });
    }

    fn finish_jobs(&mut self, first: Job) {
        self.finish_job(first);
        while let Some(Ok(job)) = self.jobs.try_join_next() {
            self.finish_job(job);
        }
    }

    fn finish_job(&mut self, job: Job) {
        match job {
            Job::Called(called) => self.settle(called),
            Job::Kept(batch, Ok(free)) => self.kept(batch, free),
            Job::Answered(question, found) => self.answered(question, found),
            Job::Kept(batch, Err(error)) => {
                tracing::error!(
                    service = %self.config.service, group = %self.config.group,
                    letters = batch.letters.len(), error = %trunkline_core::report(&error),
                    "dead letters could not be kept; their events stay unacknowledged"
                );
                self.meters.lot_failed();
                self.parked.put_back(batch, &self.ports.env);
            }
            Job::Joined(class, Ok(subscription)) => {
                tracing::info!(
                    service = %self.config.service, group = %self.config.group, "subscribed again"
                );
                if let Some(lane) = self.lanes.get(class)
                    && lane.source.is_down()
                {
                    lane.source.open(subscription);
                }
            }
            Job::Joined(class, Err(error)) => self.lose(class, &error),
        }
    }

    /// The transport failed: what waits comes again, after a pause.
    fn lose(&mut self, class: usize, error: &Error) {
        let Some(lane) = self.lanes.all.get_mut(class) else {
            return;
        };
        if matches!(lane.source.link, Link::Unused) {
            return;
        }
        let pause = lane.source.fail(&self.ports.env);
        for due in lane.clear_waiting() {
            self.retries.remove(&due);
        }
        self.dismiss(class);
        tracing::warn!(
            service = %self.config.service, group = %self.config.group, ?pause,
            error = %trunkline_core::report(error), "the subscription failed; it is tried again"
        );
        self.meters.reconnect();
    }

    fn next_timer(&self) -> Option<Instant> {
        if let Phase::Draining { until, .. } = &self.phase {
            return Some(*until);
        }
        let retry = match self.phase {
            Phase::Running => self.retries.first_key_value().map(|((due, _), _)| *due),
            _ => None,
        };
        let broken = self
            .lanes
            .all
            .iter()
            .filter_map(|lane| lane.source.broken_until());
        broken
            .chain(retry)
            .chain(self.parked.retry_at)
            .chain(self.arrivals.retry_at)
            .chain(self.lag_at)
            .min()
    }

    async fn on_timer(&mut self) {
        let now = Instant::now();
        if let Phase::Draining { until, .. } = &self.phase {
            if *until <= now {
                self.jobs.shutdown().await;
                let message = "handlers were still running at the limit and were cancelled";
                let error = Error::new(ErrorKind::DeadlineExceeded, "drain_timeout", message);
                self.stop(Err(error.with("group", &self.config.group)))
                    .await;
            }
            return;
        }
        while let Some(entry) = self.retries.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let (class, key) = entry.remove();
            if let Some(lane) = self.lanes.get(class) {
                lane.retry(key);
            }
        }
        if self.parked.retry_at.is_some_and(|at| at <= now) {
            self.parked.retry_at = None;
        }
        if self.arrivals.retry_at.is_some_and(|at| at <= now) {
            self.arrivals.retry_at = None;
        }
        for class in 0..self.lanes.all.len() {
            self.rejoin(class, now);
        }
        if self.lag_at.is_some_and(|at| at <= now) {
            self.measure_lag().await;
        }
    }

    fn rejoin(&mut self, class: usize, now: Instant) {
        let Some(lane) = self.lanes.all.get_mut(class) else {
            return;
        };
        if lane.source.broken_until().is_none_or(|until| until > now) {
            return;
        }
        lane.source.link = Link::Joining;
        let transport = self.ports.transport.clone();
        let spec = lane.source.spec.clone();
        self.jobs.spawn(async move {
            let joined = sound(transport.subscribe(&spec), "the transport panicked").await;
            Job::Joined(class, joined)
        });
    }

    fn is_drained(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. })
            && self.lanes.calls() == 0
            && !self.parked.is_busy()
    }

    /// Ends the drain: hands over the settlements and leaves the group.
    async fn stop(&mut self, result: Result<()>) {
        let Phase::Draining { until, waiters } = std::mem::replace(&mut self.phase, Phase::Stopped)
        else {
            return;
        };
        let mut result = result;
        for lane in &mut self.lanes.all {
            let Link::Open(subscription) = std::mem::replace(&mut lane.source.link, Link::Unused)
            else {
                continue;
            };
            let flushed = tokio::time::timeout_at(until + FLUSH_GRACE, subscription.flush()).await;
            if result.is_ok()
                && let Ok(Err(error)) = flushed
            {
                result = Err(error);
            }
        }
        self.jobs.abort_all();
        self.parked.abandon();
        let mut first = Some(result);
        for waiter in waiters {
            answer(waiter, first.take().unwrap_or(Ok(())));
        }
    }
}

/// Acknowledgements of what did end within the limit get this much longer to reach the engine.
const FLUSH_GRACE: Duration = Duration::from_secs(1);

/// A port's answer; a panic in it becomes an error.
async fn sound<T>(work: BoxFuture<'_, Result<T>>, message: &'static str) -> Result<T> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(Error::internal(message)))
}
