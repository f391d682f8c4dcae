//! The relay's loop.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use trunkline_bus::{Transport, lane};
use trunkline_core::{ByteString, Env, Envelope, Error, Result, Retry, report};
use trunkline_telemetry::{SpanKind, Telemetry};

use super::batch::Batch;
use super::leader::Leader;
use super::{State, held};
use crate::Store;
use crate::outbox::{self, OutboxRow};

/// Events read and sent at once, at most.
const BATCH: i64 = 256;

/// When the events of a batch have more bytes than this, the next one has half as many events.
const BATCH_BYTES: usize = 8 << 20;

/// Sent events whose rows are not removed yet; at this many they are removed, however busy it is.
const UNSAVED_MAX: usize = 64;

/// With nothing more to send, the rows of what was sent are removed after this pause, so that events
/// that come one by one share a removal.
const SAVE_AFTER: Duration = Duration::from_millis(10);

/// How long a transport may take over a batch.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);

/// Pauses between attempts, doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often a relay that does not lead looks whether it can.
const STANDBY: Duration = Duration::from_secs(1);

/// After so many failures of the same event in a row, another is tried: if that one goes, it is the
/// event and not the transport, and it is set aside.
const SUSPECT_AFTER: u32 = 6;

pub(super) struct Worker {
    store: Store,
    transport: Arc<dyn Transport>,
    telemetry: Telemetry,
    env: Env,
    state: Arc<State>,
    held_keys: HashSet<ByteString>,
    unsaved: Vec<i64>,
    next_due: Option<Timestamp>,
    pause: Duration,
    batch_max: i64,
    suspect: Option<(i64, u32)>,
    /// It lost the lead, perhaps with commits of this process that nobody else was told of.
    untold: bool,
}

impl Worker {
    pub(super) fn new(
        store: Store,
        transport: Arc<dyn Transport>,
        telemetry: Telemetry,
        env: Env,
        state: Arc<State>,
    ) -> Self {
        Self {
            store,
            transport,
            telemetry,
            env,
            state,
            held_keys: HashSet::new(),
            unsaved: Vec::new(),
            next_due: None,
            pause: PAUSE_MIN,
            batch_max: BATCH,
            suspect: None,
            untold: false,
        }
    }

    pub(super) async fn run(mut self) {
        // The session with which a relay that does not lead asks for the lock.
        let mut candidate = None;
        while !self.state.stop.is_cancelled() {
            let led = match Leader::acquire(&self.store, &mut candidate).await {
                Ok(Some(leader)) => {
                    self.state.leading.store(true, Ordering::Release);
                    let led = self.lead(leader).await;
                    self.state.leading.store(false, Ordering::Release);
                    self.untold = true;
                    led
                }
                Ok(None) => {
                    // Whatever failed when it led is the leader's concern now.
                    self.state.went_well();
                    self.stand_by().await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = led {
                self.failed(&error);
                self.rest().await;
            }
        }
    }

    /// Passes commits on to whoever leads, until it is time to try again.
    async fn stand_by(&mut self) -> Result<()> {
        let until = tokio::time::Instant::now() + STANDBY;
        if self.untold {
            Leader::tell(&self.store).await?;
            self.untold = false;
        }
        loop {
            tokio::select! {
                biased;
                () = self.state.stop.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(until) => return Ok(()),
                () = self.store.outbox().committed.notified() => Leader::tell(&self.store).await?,
            }
        }
    }

    /// Sends until it is stopped or the store fails.
    async fn lead(&mut self, mut leader: Leader) -> Result<()> {
        self.held_keys = held::keys(&mut leader.conn).await?;
        self.state.held_changed.store(true, Ordering::Release);
        self.next_due = outbox::next_due(&mut leader.conn).await?;
        // The store is there; what the bus says is seen when there is something to send.
        self.state.went_well();
        loop {
            if self.state.stop.is_cancelled() {
                return self.save().await;
            }
            match self.pass(&mut leader).await {
                Ok(true) => {}
                Ok(false) => self.wait(&mut leader).await?,
                Err(Failure::Store(error)) => return Err(error),
                Err(Failure::Transport(error)) => {
                    self.failed(&error);
                    self.save().await?;
                    self.rest().await;
                }
            }
        }
    }

    /// Sends one batch of each sort. Says whether there may be more.
    async fn pass(&mut self, leader: &mut Leader) -> Result<bool, Failure> {
        if self.next_due.is_some_and(|due| due <= self.env.now()) {
            outbox::release_due(&self.store, BATCH).await?;
            self.next_due = outbox::next_due(&mut leader.conn).await?;
        }
        let freed = self.pass_held(leader).await?;
        let but = outbox::id_list(self.unsaved.iter().copied());
        let limit = self.batch_max;
        let rows = outbox::pending(self.store.engine(), &mut leader.conn, &but, limit).await?;
        self.until_durable(&rows).await?;
        let more = rows.len() >= usize::try_from(limit).unwrap_or(0);
        let bytes: usize = rows.iter().map(|row| row.envelope.len()).sum();
        let next = if bytes > BATCH_BYTES {
            limit / 2
        } else {
            limit.saturating_mul(2)
        };
        self.batch_max = next.clamp(1, BATCH);
        if !rows.is_empty() {
            let (behind, rows): (Vec<_>, Vec<_>) = rows
                .into_iter()
                .partition(|row| self.held_keys.contains(&row.key));
            if !behind.is_empty() {
                held::hold(&self.store, &behind).await?;
                self.state.progressed();
            }
            self.send(rows, false).await?;
            if self.unsaved.len() >= UNSAVED_MAX {
                self.save().await?;
            }
        }
        let due = self.next_due.is_some_and(|due| due <= self.env.now());
        // What was set aside in this pass has others of its key behind it.
        let changed = self.state.held_changed.load(Ordering::Acquire);
        Ok(more || freed || due || changed)
    }

    /// Waits until these rows are on disk: what a power failure takes back must not have been sent.
    async fn until_durable(&self, rows: &[OutboxRow]) -> Result<()> {
        // Ids are given in the order of the commits, and each commit is on disk only with those before it.
        match rows.last() {
            None => Ok(()),
            Some(row) if self.store.outbox().is_foreign(row.id) => self.store.on_disk().await,
            Some(_) => self.store.settled().await,
        }
    }

    /// Sends held events that nothing holds any more. Says whether there may be more.
    async fn pass_held(&mut self, leader: &mut Leader) -> Result<bool, Failure> {
        if !self.state.held_changed.swap(false, Ordering::AcqRel) {
            return Ok(false);
        }
        if self.held_keys.is_empty() && held::keys(&mut leader.conn).await?.is_empty() {
            return Ok(false);
        }
        let rows = held::free(&mut leader.conn, BATCH).await?;
        let more = !rows.is_empty();
        if more {
            self.store.on_disk().await?;
            self.state.held_changed.store(true, Ordering::Release);
            self.send(rows, true).await?;
        }
        held::measure(&self.store, &mut leader.conn).await?;
        // A key with nothing left is free: its next events are sent as they come.
        self.held_keys = held::keys(&mut leader.conn).await?;
        Ok(more)
    }

    /// Sends rows in order, setting aside what can't be sent.
    async fn send(&mut self, rows: Vec<OutboxRow>, held: bool) -> Result<(), Failure> {
        let mut batch = self.decode(rows, held).await?;
        while !batch.rows().is_empty() {
            let sent = self.publish(batch.envelopes()).await;
            let (accepted, error) = match sent {
                Ok(()) => (batch.rows().len(), None),
                Err((accepted, error)) => (accepted.min(batch.rows().len()), Some(error)),
            };
            self.mark_sent(&mut batch, accepted).await?;
            let Some(error) = error else { continue };
            let Some(row) = batch.rows().first().cloned() else {
                return Err(Failure::Transport(error));
            };
            if let Some(span) = batch.first_span() {
                span.fail(&error);
            }
            if error.retry() != Retry::Permanent && !self.is_alone(&row, &batch).await? {
                return Err(Failure::Transport(error));
            }
            self.set_aside(&row, batch.held, &error).await?;
            batch.drop_key(&row.key);
        }
        self.state.went_well();
        self.pause = PAUSE_MIN;
        Ok(())
    }

    /// Reads the envelopes; a row that can't be read is set aside, with those of its key behind it.
    async fn decode(&mut self, rows: Vec<OutboxRow>, held: bool) -> Result<Batch, Failure> {
        let mut batch = Batch::new(held);
        let mut unreadable = HashSet::new();
        for row in rows {
            if unreadable.contains(&row.key) {
                continue;
            }
            match row.decode() {
                Ok(mut envelope) => {
                    envelope.topic = lane(&envelope.topic, envelope.priority);
                    let name = format!("send {}", envelope.event_type);
                    let service = self.store.service();
                    let span =
                        self.telemetry
                            .span(SpanKind::Producer, name, service, envelope.trace);
                    envelope.trace = Some(span.context());
                    batch.push(row, envelope, span);
                }
                Err(error) => {
                    self.set_aside(&row, held, &error).await?;
                    unreadable.insert(row.key);
                }
            }
        }
        Ok(batch)
    }

    async fn publish(&self, envelopes: &[Envelope]) -> Result<(), (usize, Error)> {
        match tokio::time::timeout(PUBLISH_TIMEOUT, self.transport.publish(envelopes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failed)) => Err((failed.accepted, failed.error)),
            Err(_) => {
                let error =
                    Error::unavailable("bus_timeout", "the bus did not take a batch in time");
                Err((0, error.with_retry(Retry::Unknown)))
            }
        }
    }

    /// Whether it is this event that fails and not the transport: it has failed often, and an event
    /// of another key can be sent.
    async fn is_alone(&mut self, row: &OutboxRow, batch: &Batch) -> Result<bool, Failure> {
        let failures = match self.suspect {
            Some((id, failures)) if id == row.id => failures.saturating_add(1),
            _ => 1,
        };
        self.suspect = Some((row.id, failures));
        if failures < SUSPECT_AFTER {
            return Ok(false);
        }
        let Some(other) = batch.other(&row.key) else {
            return Ok(false);
        };
        // It stays in the batch and is sent once more with the others, which the inbox absorbs.
        let probe = self.publish(std::slice::from_ref(other)).await;
        tracing::warn!(event = %row.event_id, other = %other.id, sent = probe.is_ok(),
            "an event could not be sent many times; another was tried");
        Ok(probe.is_ok())
    }

    async fn set_aside(&mut self, row: &OutboxRow, held: bool, error: &Error) -> Result<()> {
        let why = report(error).to_string();
        tracing::error!(service = %self.store.service(), event = %row.event_id, key = %row.key,
            error = %why, "an event can't be sent and is set aside; later ones of its key wait");
        held::set_aside(&self.store, row, held, &why).await?;
        self.held_keys.insert(row.key.clone());
        self.state.held_changed.store(true, Ordering::Release);
        self.suspect = None;
        self.state.progressed();
        Ok(())
    }

    /// The first `accepted` of the batch are sent.
    async fn mark_sent(&mut self, batch: &mut Batch, accepted: usize) -> Result<()> {
        if accepted == 0 {
            return Ok(());
        }
        self.suspect = None;
        let now = self.store.now_micros();
        let service = self.store.service();
        metrics::counter!("trunkline_outbox_sent_total", "service" => service.to_string())
            .increment(accepted as u64);
        let lag =
            metrics::histogram!("trunkline_outbox_lag_seconds", "service" => service.to_string());
        let ids: Vec<i64> = batch
            .take(accepted)
            .iter()
            .map(|row| {
                lag.record(Duration::from_micros(now.abs_diff(row.made_at)).as_secs_f64());
                row.id
            })
            .collect();
        if batch.held {
            let mut tx = self.store.begin_relay().await?;
            outbox::remove(self.store.engine(), tx.conn(), true, &outbox::id_list(ids)).await?;
            tx.commit().await?;
            self.state.progressed();
        } else {
            self.unsaved.extend(ids);
        }
        Ok(())
    }

    /// Removes the rows of what was sent.
    async fn save(&mut self) -> Result<()> {
        if self.unsaved.is_empty() {
            return Ok(());
        }
        let ids = outbox::id_list(self.unsaved.iter().copied());
        let mut tx = self.store.begin_relay().await?;
        outbox::remove(self.store.engine(), tx.conn(), false, &ids).await?;
        tx.commit().await?;
        self.unsaved.clear();
        self.state.progressed();
        Ok(())
    }

    /// Waits for something to do.
    async fn wait(&mut self, leader: &mut Leader) -> Result<()> {
        let save = !self.unsaved.is_empty();
        let until_due = self.next_due.map(|due| {
            Duration::try_from(due.duration_since(self.env.now())).unwrap_or(Duration::ZERO)
        });
        tokio::select! {
            biased;
            () = self.state.stop.cancelled() => {}
            () = self.store.outbox().committed.notified() => {
                if let Some(due) = self.store.outbox().take_due() {
                    self.next_due = Some(self.next_due.map_or(due, |known| known.min(due)));
                }
            }
            () = tokio::time::sleep(SAVE_AFTER), if save => self.save().await?,
            () = tokio::time::sleep(until_due.unwrap_or_default()), if until_due.is_some() => {}
            () = leader.wake.heard() => {
                // Another process may have published for later, or freed a held event.
                self.next_due = outbox::next_due(&mut leader.conn).await?;
                self.state.held_changed.store(true, Ordering::Release);
            }
        }
        Ok(())
    }

    fn failed(&mut self, error: &Error) {
        tracing::warn!(service = %self.store.service(), error = %report(error),
            "the outbox could not be sent; trying again");
        self.state.failed(error);
        self.state.progressed();
    }

    /// Pauses after a failure, longer each time.
    async fn rest(&mut self) {
        let share = self.env.random_u64() % 1000;
        let jitter = self
            .pause
            .mul_f64(f64::from(u32::try_from(share).unwrap_or(0)) / 2000.0);
        tokio::select! {
            biased;
            () = self.state.stop.cancelled() => {}
            () = tokio::time::sleep(self.pause + jitter) => {}
        }
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

/// What failed: the store ends the lead, the transport does not.
enum Failure {
    Store(Error),
    Transport(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}
