//! The service's handler, asked about each letter that has failed.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use metrics::counter;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use trunkline_bus::{DeadLetter, RetryPolicy};
use trunkline_core::{Context, Error, ErrorKind, Result, Timestamp, report};
use trunkline_security::{AuditEntry, AuditOutcome};
use trunkline_telemetry::{Scope, SpanKind};

use super::{LOOK_AGAIN, Recoverer, Recovery, heard};
use crate::Cx;

/// How often the handler is asked about one failure in vain.
const ATTEMPTS_MAX: u32 = 3;
/// The pause after the first time; it doubles.
const PAUSE: Duration = Duration::from_secs(1);

impl Recoverer {
    /// Has all letters decided about, whenever there are some, until `stop`.
    pub(super) async fn decide_always(self, stop: CancellationToken) {
        // Heard from before the lot is read, so that nothing is missed in between.
        let mut changes = self.changes();
        while !stop.is_cancelled() {
            let done = self.decide_all(&stop).await;
            let again = async {
                match &done {
                    Ok(()) => heard(&mut changes).await,
                    Err(error) => {
                        self.warn(error);
                        sleep(LOOK_AGAIN).await;
                    }
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = again => {}
            }
        }
    }

    async fn decide_all(&self, stop: &CancellationToken) -> Result<()> {
        for consumer in &self.consumers {
            loop {
                let letters = self.letters.undecided(consumer.group()).await?;
                if letters.is_empty() {
                    break;
                }
                for letter in letters {
                    if stop.is_cancelled() {
                        return Ok(());
                    }
                    self.decide(&letter, stop).await?;
                }
            }
        }
        Ok(())
    }

    /// Asks about one letter, several times if need be.
    async fn decide(&self, letter: &DeadLetter, stop: &CancellationToken) -> Result<()> {
        let mut pause = PAUSE;
        let mut attempt = 1;
        loop {
            let Err(error) = self.ask(letter).await else {
                return Ok(());
            };
            // Nobody's handler can do anything about that.
            if trunkline_store::is_away(&error) {
                return Err(error);
            }
            tracing::warn!(
                service = &*self.runtime.name, letter_id = &*letter.id, attempt, error = %report(&error),
                "the handler of dead letters failed"
            );
            counter!(
                "trunkline_dead_letter_handler_failures_total",
                &self.labels()
            )
            .increment(1);
            if attempt == ATTEMPTS_MAX {
                return self.give_up(letter, &error).await;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = sleep(pause) => {}
            }
            attempt += 1;
            pause *= 2;
        }
    }

    /// One unit of work: what the handler does, and what it decides.
    async fn ask(&self, letter: &DeadLetter) -> Result<()> {
        let runtime = &self.runtime;
        let name = format!("dead letter {}", letter.envelope.event_type);
        let telemetry = &runtime.telemetry;
        let parent = letter.envelope.trace;
        let mut span = telemetry.span(SpanKind::Internal, name, &runtime.name, parent);
        let mut context = Context::of_event(&letter.envelope, &runtime.env);
        context.trace = span.context();
        let scope = Scope::new(&runtime.name, &context);
        let cx = Cx::new(runtime.clone(), context);
        let done = scope.run(async {
            let recovery = self.handled(&cx, letter).await?;
            self.commit(&cx, letter, recovery).await
        });
        let done = done.await;
        if let Err(error) = &done {
            span.fail(error);
            cx.undo().await;
        }
        done
    }

    /// Runs the handler, which may panic or take too long.
    async fn handled(&self, cx: &Cx, letter: &DeadLetter) -> Result<Recovery> {
        let limit = Duration::from_millis(self.runtime.config.events.handler_timeout_ms);
        let work = async { (self.handler)(cx.clone(), letter.clone()).await };
        match timeout(limit, AssertUnwindSafe(work).catch_unwind()).await {
            Ok(Ok(decided)) => decided,
            Ok(Err(_)) => Err(Error::internal("the handler of dead letters panicked")),
            Err(_) => {
                let text = "the handler of dead letters took too long";
                let error = Error::new(ErrorKind::DeadlineExceeded, "handler_timeout", text);
                Err(error.with("limit", format!("{limit:?}")))
            }
        }
    }

    async fn commit(&self, cx: &Cx, letter: &DeadLetter, recovery: Recovery) -> Result<()> {
        let retry_at = match recovery {
            Recovery::Retry => self.retry_at(letter),
            Recovery::Keep => None,
        };
        let mut tx = cx.tx().await?;
        let is_current = tx.decide(letter, retry_at).await?;
        drop(tx);
        if !is_current {
            // Another process was faster, or the letter is not what it was: then it is asked about anew.
            cx.undo().await;
            return Ok(());
        }
        cx.finish(None).await?;
        self.tell(letter, retry_at);
        Ok(())
    }

    /// When a letter is replayed; none if that was done often enough.
    fn retry_at(&self, letter: &DeadLetter) -> Option<Timestamp> {
        let events = &self.runtime.config.events;
        if letter.recoveries >= events.recoveries_max {
            return None;
        }
        let pauses = RetryPolicy {
            initial: Duration::from_millis(events.recovery_initial_ms),
            max: Duration::from_millis(events.recovery_max_ms),
            jitter: false,
            ..RetryPolicy::default()
        };
        let env = &self.runtime.env;
        Some(env.after(pauses.pause(letter.recoveries.saturating_add(1), env)))
    }

    fn tell(&self, letter: &DeadLetter, retry_at: Option<Timestamp>) {
        let decision = if retry_at.is_some() { "retry" } else { "keep" };
        tracing::warn!(
            service = &*self.runtime.name,
            group = &*letter.group,
            letter_id = &*letter.id,
            event_type = &*letter.envelope.event_type,
            event_id = &*letter.envelope.id,
            code = letter.code,
            recoveries = letter.recoveries,
            decision,
            retry_at = retry_at.map(tracing::field::display),
            "a dead letter was decided about"
        );
        let [service] = self.labels();
        let labels = [service, ("decision", decision.to_owned())];
        counter!("trunkline_dead_letter_decisions_total", &labels).increment(1);
        self.scheduled.notify_one();
    }

    /// Keeps a letter about which the handler can't decide, and says so where people look for what happened.
    async fn give_up(&self, letter: &DeadLetter, error: &Error) -> Result<()> {
        let runtime = &self.runtime;
        let object = format!("{} {}", letter.envelope.event_type, letter.envelope.id);
        let (actor, action) = (runtime.name.to_string(), "dead_letter.decide");
        let entry = AuditEntry::new(actor, action, object, AuditOutcome::Failed, &runtime.env)
            .in_flow(letter.envelope.correlation_id.clone())
            .because(format!("{}: {error}", error.code()));
        let mut tx = runtime.store.begin().await?;
        if !tx.decide(letter, None).await? {
            return tx.rollback().await;
        }
        runtime.audit_log.append_in(&mut tx, &[entry]).await?;
        tx.commit().await?;
        self.tell(letter, None);
        Ok(())
    }

    pub(super) fn labels(&self) -> [(&'static str, String); 1] {
        [("service", self.runtime.name.to_string())]
    }
}
