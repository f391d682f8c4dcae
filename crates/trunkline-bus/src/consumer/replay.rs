//! Dead letters replayed, edited and discarded, each key in order.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use trunkline_core::{Error, Result, report};

use super::call::call;
use super::command::Command;
use super::item::Key;
use super::trace::Traced;
use super::{Inner, ReplayOutcome, ReplayReport, ReplayRequest, ReplayedLetter};
use crate::{DeadLetter, DeadLetterQuery, Outcome, Reservation};

/// How many letters a report names.
const LETTERS_MAX: usize = 1_000;
/// How many letters are read at once.
const PAGE: usize = 100;

/// A replay at work.
pub(super) struct Replay<'a> {
    pub(super) inner: &'a Inner,
    pub(super) request: ReplayRequest,
    pub(super) report: ReplayReport,
    /// When the next letter may run, if the rate is limited.
    next_at: Instant,
    alone: Alone<'a>,
}

/// Nobody else replays, edits or discards letters of the group: neither by this consumer nor elsewhere.
struct Alone<'a> {
    _here: tokio::sync::MutexGuard<'a, ()>,
    everywhere: Box<dyn Reservation>,
}

impl Inner {
    pub(super) async fn replay(&self, request: ReplayRequest) -> Result<ReplayReport> {
        let alone = self.alone().await?;
        let keys = self.keys_of(&request).await?;
        let report = ReplayReport {
            dry_run: request.dry_run,
            ..ReplayReport::default()
        };
        let mut replay = Replay {
            inner: self,
            request,
            report,
            next_at: Instant::now(),
            alone,
        };
        for key in keys {
            if self.stopping.is_cancelled() {
                replay.report.interrupted = true;
                break;
            }
            let done = replay.key(&key).await;
            if !replay.request.dry_run {
                self.letters_left().await;
            }
            done?;
        }
        Ok(replay.report)
    }

    /// The keys that the filter chooses, those with the oldest letters first.
    async fn keys_of(&self, request: &ReplayRequest) -> Result<Vec<Key>> {
        let mut keys = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut query = DeadLetterQuery {
            group: Some(self.config.group.clone()),
            key: request.key.clone(),
            event_type: request.event_type.clone(),
            id: request.id.clone(),
            after: None,
            limit: PAGE,
        };
        loop {
            let page = self.ports.lot.list(&query).await?;
            let Some(last) = page.last() else { break };
            query.after = Some(last.id.clone());
            let full = page.len() >= PAGE;
            keys.extend(
                page.into_iter()
                    .map(|l| l.key)
                    .filter(|key| seen.insert(key.clone())),
            );
            if !full {
                break;
            }
        }
        Ok(keys)
    }

    pub(super) async fn edit(&self, id: &str, data: Bytes) -> Result<DeadLetter> {
        let _alone = self.alone().await?;
        let query = DeadLetterQuery {
            id: Some(id.into()),
            ..self.all()
        };
        let mut letter = self
            .ports
            .lot
            .list(&query)
            .await?
            .pop()
            .ok_or_else(|| gone(id))?;
        let json = letter.envelope.content_type.contains("json");
        if json && let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&data) {
            let message = "expected JSON, as the event's content type says";
            return Err(Error::invalid("dead_letter_data_invalid", message).with_source(error));
        }
        let before = std::mem::replace(&mut letter.envelope.data, data);
        letter.original.get_or_insert(before);
        letter.replays = 0;
        self.ports.lot.update(&letter).await?;
        Ok(letter)
    }

    pub(super) async fn discard(&self, query: DeadLetterQuery) -> Result<usize> {
        if query.key.is_none() && query.event_type.is_none() && query.id.is_none() {
            let message = "expected a key, an event type or an id: not all at once";
            return Err(Error::invalid("dead_letter_query_empty", message));
        }
        let _alone = self.alone().await?;
        let query = DeadLetterQuery {
            group: self.all().group,
            after: None,
            limit: PAGE,
            ..query
        };
        let mut count = 0;
        loop {
            let letters = self.ports.lot.list(&query).await?;
            if letters.is_empty() {
                return Ok(count);
            }
            let mut keys = Vec::new();
            for letter in letters {
                gone_is_fine(self.ports.lot.remove(&letter.id).await)?;
                count += 1;
                tracing::info!(
                    group = %letter.group, letter_id = %letter.id, event_id = %letter.envelope.id,
                    correlation_id = %letter.envelope.correlation_id, "a dead letter was discarded"
                );
                if !keys.contains(&letter.key) {
                    keys.push(letter.key);
                }
            }
            for key in keys {
                self.ask_for(&key).await?;
            }
        }
    }

    /// Has this member look whether a key is still parked; the others are told by the lot. None has to
    /// know for the key to be free.
    async fn ask_for(&self, key: &Key) -> Result<()> {
        let key = key.clone();
        self.ask(|done| Command::Ask { key, done }).await
    }

    pub(super) async fn letters_left(&self) {
        self.oldest.left(&self.ports, &self.all()).await;
    }

    pub(super) fn all(&self) -> DeadLetterQuery {
        DeadLetterQuery {
            group: Some(self.config.group.clone()),
            ..DeadLetterQuery::default()
        }
    }

    async fn alone(&self) -> Result<Alone<'_>> {
        let busy = || {
            let message = "another replay, edit or discard of this group is running";
            Error::conflict("dead_letters_busy", message).with("group", &self.config.group)
        };
        let here = self.admin.try_lock().map_err(|_| busy())?;
        let everywhere = self.ports.lot.reserve(&self.config.group).await?;
        Ok(Alone {
            _here: here,
            everywhere: everywhere.ok_or_else(busy)?,
        })
    }

    pub(super) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T> {
        let stopped = || Error::unavailable("consumer_stopped", "the consumer has stopped");
        let (to, from) = oneshot::channel();
        self.commands
            .send(command(to))
            .await
            .map_err(|_| stopped())?;
        from.await.map_err(|_| stopped())
    }
}

impl Replay<'_> {
    /// Replays a key from its first letter on, until one fails or none is left.
    async fn key(&mut self, key: &Key) -> Result<()> {
        self.report.keys += 1;
        let mut after = None;
        loop {
            let query = DeadLetterQuery {
                key: Some(key.clone()),
                after: after.clone(),
                limit: PAGE,
                ..self.inner.all()
            };
            let letters = self.inner.ports.lot.list(&query).await?;
            if letters.is_empty() {
                // It is free by that alone: see [`super::parked`].
                if !self.request.dry_run {
                    self.inner.ask_for(key).await?;
                    self.report.freed += 1;
                }
                return Ok(());
            }
            if self.request.dry_run {
                let is_first = after.is_none();
                after = letters.last().map(|letter| letter.id.clone());
                if !self.rehearse(&letters, is_first).await {
                    return Ok(());
                }
                continue;
            }
            for letter in letters {
                if self.inner.stopping.is_cancelled() {
                    self.report.interrupted = true;
                    return Ok(());
                }
                if !self.letter(letter).await? {
                    return Ok(());
                }
            }
        }
    }

    /// Replays one letter; false if its key stays parked.
    async fn letter(&mut self, letter: DeadLetter) -> Result<bool> {
        if self.refuses(&letter) {
            return Ok(false);
        }
        self.wait_for_turn().await;
        self.alone.everywhere.check().await?;
        let inner = self.inner;
        let limit = inner.config.handler_timeout;
        let attempt = letter.attempts.saturating_add(1);
        let mut event = letter.envelope.clone();
        let batch = std::slice::from_mut(&mut event);
        let traced = Traced::open(&inner.config, &inner.ports, batch, attempt);
        let work = call(&*inner.ports.handler, batch, attempt, limit);
        let (ended, _) = traced.scope.clone().run(work).await;
        traced.close(&ended);
        let error = match ended.single() {
            Outcome::Done => {
                gone_is_fine(self.inner.ports.lot.handled(&letter.id).await)?;
                self.report.replayed += 1;
                self.note(&letter, ReplayOutcome::Handled, None);
                return Ok(true);
            }
            Outcome::Failed(error) => error,
            Outcome::Blocked => Error::internal("blocked, but nothing of its key had failed"),
        };
        self.failed(letter, &error).await
    }

    async fn failed(&mut self, mut letter: DeadLetter, error: &Error) -> Result<bool> {
        letter.fails(error, self.inner.ports.env.now());
        tracing::warn!(
            group = %letter.group, letter_id = %letter.id, event_id = %letter.envelope.id,
            correlation_id = %letter.envelope.correlation_id, replays = letter.replays,
            error = %report(error), "a dead letter failed again"
        );
        gone_is_fine(self.inner.ports.lot.update(&letter).await)?;
        self.report.failed += 1;
        self.note(&letter, ReplayOutcome::Failed, letter.error.clone());
        Ok(false)
    }

    async fn wait_for_turn(&mut self) {
        let Some(rate) = self.request.rate_per_second.filter(|rate| *rate > 0) else {
            return;
        };
        tokio::select! {
            biased;
            () = self.inner.stopping.cancelled() => {}
            () = tokio::time::sleep_until(self.next_at) => {}
        }
        self.next_at = self.next_at.max(Instant::now()) + Duration::from_secs(1) / rate;
    }

    pub(super) fn note(
        &mut self,
        letter: &DeadLetter,
        outcome: ReplayOutcome,
        error: Option<String>,
    ) {
        if self.report.letters.len() < LETTERS_MAX {
            self.report.letters.push(ReplayedLetter {
                id: letter.id.clone(),
                key: letter.key.clone(),
                event_id: letter.envelope.id.clone(),
                event_type: letter.envelope.event_type.clone(),
                outcome,
                error,
            });
        }
    }
}

fn gone(id: &str) -> Error {
    Error::not_found("dead_letter_gone", "there is no such dead letter").with("id", id)
}

/// What is gone already needs no removing.
fn gone_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == trunkline_core::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
