//! Sending commands, again where no answer comes, until they have ended.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytestring::ByteString;
use metrics::counter;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use trunkline_core::{Env, Result, Timestamp, report};

use super::{CommandBook, Pending};
use crate::declare::CommandTopics;

/// So many commands are taken from the book at once.
const BATCH_MAX: u32 = 256;
/// The longest pause between two attempts.
const ANSWER_WITHIN_MAX: Duration = Duration::from_secs(300);
/// What could not be handed to the broker is tried again after this.
const LATER: Duration = Duration::from_secs(1);
/// While the broker is away, each command is looked at so often; all are due when it is back.
const AWAY: Duration = Duration::from_secs(30);
/// The book is looked at after this at the latest.
const LOOK_MAX: Duration = Duration::from_secs(3_600);

/// What the sender needs to know of the world.
pub(crate) trait Outlet: Send + Sync {
    /// Whether the broker is reached.
    fn is_linked(&self) -> bool;
    /// Whether a device is not known to be gone.
    fn is_reachable(&self, device: &str) -> bool;
    /// Hands a command to the broker; an error means that it was not taken.
    fn send(&self, topics: &CommandTopics, command: &Pending, left: Duration) -> Result<()>;
}

pub(crate) struct Sender {
    pub(crate) topics: CommandTopics,
    pub(crate) book: Arc<dyn CommandBook>,
    pub(crate) env: Env,
    pub(crate) answer_within: Duration,
    wake: Arc<Notify>,
    /// Devices for whom something was in the book when it was last looked at.
    waiting: Mutex<HashSet<ByteString>>,
    /// Those of them that came since.
    roused: Mutex<HashSet<ByteString>>,
    /// All are to be sent that wait: at the start, and when the broker is back.
    all_roused: AtomicBool,
}

impl Sender {
    pub(crate) fn new(
        topics: CommandTopics,
        book: Arc<dyn CommandBook>,
        (env, wake): (Env, Arc<Notify>),
        answer_within: Duration,
    ) -> Self {
        Self {
            topics,
            book,
            env,
            answer_within,
            wake,
            waiting: Mutex::default(),
            roused: Mutex::default(),
            all_roused: AtomicBool::new(true),
        }
    }

    /// The broker is back.
    pub(crate) fn linked(&self) {
        self.all_roused.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// A device came.
    pub(crate) fn rouse(&self, device: &ByteString) {
        if self.waiting.lock().remove(device) {
            self.roused.lock().insert(device.clone());
            self.wake.notify_one();
        }
    }

    pub(crate) async fn run(&self, outlet: &dyn Outlet, stop: CancellationToken) {
        let work = async {
            loop {
                let wait = self.turn(outlet).await.unwrap_or_else(|error| {
                    warn(&error);
                    LATER
                });
                tokio::select! {
                    biased;
                    () = self.wake.notified() => {}
                    () = sleep(wait) => {}
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    /// Does what is due; says when to look again.
    async fn turn(&self, outlet: &dyn Outlet) -> Result<Duration> {
        if self.all_roused.swap(false, Ordering::AcqRel)
            && let Err(error) = self.book.rouse("").await
        {
            self.all_roused.store(true, Ordering::Release);
            return Err(error);
        }
        let roused = std::mem::take(&mut *self.roused.lock());
        for device in roused {
            self.book.rouse(&device).await?;
        }
        loop {
            let due = self.book.due(self.env.now(), BATCH_MAX).await?;
            for command in &due {
                self.step(outlet, command).await?;
            }
            if due.is_empty() {
                break;
            }
        }
        let next = self.book.next_due().await?;
        Ok(next.map_or(LOOK_MAX, |at| self.left(at).min(LOOK_MAX)))
    }

    async fn step(&self, outlet: &dyn Outlet, command: &Pending) -> Result<()> {
        let left = self.left(command.expires_at);
        if left.is_zero() {
            count("expired");
            return self.book.expire(command).await;
        }
        self.waiting.lock().insert(command.device.clone());
        if !outlet.is_reachable(&command.device) {
            // It is due again when the device comes.
            let book = &self.book;
            book.put_off(command, command.expires_at, false).await?;
            if outlet.is_reachable(&command.device) {
                self.rouse(&command.device);
            }
            return Ok(());
        }
        let sent = outlet.is_linked() && outlet.send(&self.topics, command, left).is_ok();
        let doubled = 2_u32.saturating_pow(command.attempts.min(16));
        let pause = match (sent, outlet.is_linked()) {
            (true, _) => self
                .answer_within
                .saturating_mul(doubled)
                .min(ANSWER_WITHIN_MAX),
            (false, true) => LATER,
            (false, false) => AWAY,
        };
        count(if sent { "sent" } else { "not_sent" });
        let at = self.env.after(pause).min(command.expires_at);
        self.book.put_off(command, at, sent).await
    }

    fn left(&self, at: Timestamp) -> Duration {
        Duration::try_from(at.duration_since(self.env.now())).unwrap_or_default()
    }
}

fn warn(error: &trunkline_core::Error) {
    tracing::warn!(error = %report(error), "commands to devices wait");
}

fn count(what: &'static str) {
    counter!("trunkline_device_commands_total", "outcome" => what).increment(1);
}

#[cfg(test)]
mod tests;
