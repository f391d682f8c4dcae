//! Letters that are replayed by themselves when their time has come.

use std::time::Duration;

use metrics::counter;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use trunkline_bus::{Consumer, DeadLetter, ReplayOutcome, ReplayReport, ReplayRequest};
use trunkline_core::{Result, Timestamp};

use super::{LOOK_AGAIN, Recoverer, heard};

/// How soon it is tried again while somebody else replays, edits or discards letters of the group.
const BUSY: Duration = Duration::from_secs(1);

impl Recoverer {
    /// Replays what is due, until `stop`. A replay that is cut off by that goes on at the next start.
    pub(super) async fn retry_always(self, stop: CancellationToken) {
        let work = async {
            let mut changes = self.changes();
            loop {
                let wait = self.retry_due().await.unwrap_or_else(|error| {
                    self.warn(&error);
                    Some(LOOK_AGAIN)
                });
                let due = async {
                    match wait {
                        Some(wait) => sleep(wait).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    () = self.scheduled.notified() => {}
                    () = heard(&mut changes) => {}
                    () = due => {}
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    /// Replays each letter whose time has come. Says when to look again, if there are others.
    async fn retry_due(&self) -> Result<Option<Duration>> {
        let mut next: Option<Duration> = None;
        for consumer in &self.consumers {
            let mut wait = None;
            while wait.is_none()
                && let Some(letter) = self.letters.scheduled(consumer.group()).await?
            {
                wait = match self.until(letter.retry_at) {
                    Duration::ZERO if self.retry(consumer, &letter).await? => None,
                    Duration::ZERO => Some(BUSY),
                    until => Some(until),
                };
            }
            next = next.into_iter().chain(wait).min();
        }
        Ok(next)
    }

    fn until(&self, at: Option<Timestamp>) -> Duration {
        let left = at.map(|at| at.duration_since(self.runtime.env.now()));
        left.and_then(|left| Duration::try_from(left).ok())
            .unwrap_or_default()
    }

    /// Replays a letter's key; false if it is not its turn yet.
    async fn retry(&self, consumer: &Consumer, letter: &DeadLetter) -> Result<bool> {
        let request = ReplayRequest {
            key: Some(letter.key.clone()),
            ..ReplayRequest::default()
        };
        let report = match consumer.replay(request).await {
            Ok(report) => report,
            Err(error) if error.code() == "dead_letters_busy" => return Ok(false),
            Err(error) => return Err(error),
        };
        if became(&report, letter, ReplayOutcome::Handled) {
            tracing::info!(
                service = &*self.runtime.name,
                group = &*letter.group,
                letter_id = &*letter.id,
                event_id = &*letter.envelope.id,
                recoveries = letter.recoveries,
                "a dead letter was recovered"
            );
            counter!("trunkline_dead_letters_recovered_total", &self.labels()).increment(1);
            return Ok(true);
        }
        if report.interrupted {
            return Ok(false);
        }
        if became(&report, letter, ReplayOutcome::Refused) {
            tracing::warn!(
                service = &*self.runtime.name,
                letter_id = &*letter.id,
                replays = letter.replays,
                "a dead letter was replayed in vain too often, and is kept"
            );
        }
        // It has failed again, and is asked about anew; or it is kept: it has had its turn.
        self.letters.keep(letter).await?;
        Ok(true)
    }
}

/// Whether this became of the letter itself.
fn became(report: &ReplayReport, letter: &DeadLetter, outcome: ReplayOutcome) -> bool {
    let mut letters = report.letters.iter();
    letters.any(|one| one.id == letter.id && one.outcome == outcome)
}
