//! Group commit: what many instances write at a time becomes durable together.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use trunkline_core::{Error, ErrorKind, Result, Retry, report};

use crate::journal::{Journal, Write, Written};

/// How many writes wait for the journal at most; whoever comes then waits for a place.
const QUEUE_MAX: usize = 4_096;
/// How many writes one transaction takes.
const BATCH_MAX: usize = 512;
/// The pause after the journal did not answer, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

type Waiting = (Write, oneshot::Sender<Result<Written>>);

/// Hands writes to the journal.
#[derive(Debug, Clone)]
pub(crate) struct Writer(mpsc::Sender<Waiting>);

impl Writer {
    /// A writer, and where its writes come out.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Waiting>) {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        (Self(sender), receiver)
    }

    /// Writes, and says what came of it once it is durable.
    ///
    /// # Guarantees
    /// A journal that is away is asked again until it is back. Cancelled, it may be written or not.
    ///
    /// # Errors
    /// What the journal says of this very write, or `Unavailable` when the engine has stopped.
    pub(crate) async fn write(&self, write: Write) -> Result<Written> {
        let (answer, answered) = oneshot::channel();
        self.0.send((write, answer)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

fn stopped() -> Error {
    Error::unavailable("saga_engine_stopped", "the engine of the sagas has stopped")
}

/// Writes until it ends, and then what still waits.
pub(crate) async fn run(
    journal: &dyn Journal,
    mut queue: mpsc::Receiver<Waiting>,
    mut ends: oneshot::Receiver<()>,
) {
    let mut taken = Vec::with_capacity(BATCH_MAX);
    loop {
        tokio::select! {
            biased;
            _ = &mut ends, if !queue.is_closed() => {
                queue.close();
                continue;
            }
            count = queue.recv_many(&mut taken, BATCH_MAX) => if count == 0 {
                return;
            },
        }
        let (batch, answers): (Vec<Write>, Vec<_>) = taken.drain(..).unzip();
        metrics::histogram!("trunkline_saga_batch_writes").record(as_f64(batch.len()));
        match durably(journal, &batch).await {
            Ok(written) => {
                for (answer, written) in answers.into_iter().zip(written) {
                    // Who does not wait any more will read it from the journal.
                    answer.send(Ok(written)).ok();
                }
            }
            // One of them is not to the journal's taste: each is told its own.
            Err(_) => {
                for (write, answer) in batch.into_iter().zip(answers) {
                    let written = durably(journal, std::slice::from_ref(&write)).await;
                    let written = written.and_then(|written| {
                        written
                            .into_iter()
                            .next()
                            .ok_or_else(|| Error::internal("a journal did not answer a write"))
                    });
                    answer.send(written).ok();
                }
            }
        }
    }
}

/// Repeats until the journal has written it or refuses it for good.
async fn durably(journal: &dyn Journal, batch: &[Write]) -> Result<Vec<Written>> {
    let (mut pause, longest) = PAUSES;
    loop {
        match journal.write(batch).await {
            Ok(written) if written.len() == batch.len() => return Ok(written),
            Ok(_) => return Err(Error::internal("a journal did not answer each write")),
            Err(error) if !is_away(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(error = %report(&error), "the sagas' journal is away; it is asked again");
                sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        }
    }
}

/// The journal itself can't be reached now, whatever is written.
pub(crate) fn is_away(error: &Error) -> bool {
    let passing = matches!(
        error.kind(),
        ErrorKind::Unavailable | ErrorKind::Overloaded | ErrorKind::DeadlineExceeded
    );
    passing && error.retry() != Retry::Permanent
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
