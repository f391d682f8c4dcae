//! Group commit: what many instances write at a time becomes durable together.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;
use trunkline_core::{Error, ErrorKind, Result, Retry, report};

use crate::journal::{Durable, Journal, Write, Written};

/// How many writes wait for the journal at most; whoever comes then waits for a place.
const QUEUE_MAX: usize = 4_096;
/// How many writes one transaction takes.
const BATCH_MAX: usize = 512;
/// The pause after the journal did not answer, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// So many batches may be written and not durable yet: one whose sync runs, and one for the next.
const AHEAD_MAX: usize = 2;

type Answer = oneshot::Sender<Result<Written>>;
type Waiting = (Write, Answer);

/// Hands writes to the journal.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Waiting>,
    ended: Ended,
}

/// Where writes come out.
#[derive(Debug)]
pub(crate) struct Writes {
    queue: mpsc::Receiver<Waiting>,
    ended: Ended,
}

/// Why the journal takes nothing more, once that is so.
#[derive(Debug, Clone, Default)]
struct Ended(Arc<OnceLock<Error>>);

impl Ended {
    fn because(&self, error: Error) {
        // The first reason is the cause of all others.
        self.0.set(error).ok();
    }

    /// For whoever's write was not begun.
    fn told(&self) -> Error {
        let stopped =
            || Error::unavailable("saga_engine_stopped", "the engine of the sagas has stopped");
        let why = |error| again(error).with_retry(Retry::Transient);
        self.0.get().map_or_else(stopped, why)
    }
}

impl Writer {
    /// A writer, and where its writes come out.
    pub(crate) fn new() -> (Self, Writes) {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let ended = Ended::default();
        let writer = Self {
            queue: sender,
            ended: ended.clone(),
        };
        (writer, Writes { queue, ended })
    }

    /// Writes, and says what came of it once it is durable.
    ///
    /// # Guarantees
    /// A journal that is away is asked again until it is back. Cancelled, it may be written or not.
    ///
    /// # Errors
    /// What the journal says of this very write; or one that [`is_away`] when nothing is written any more: the journal's own, if
    /// it is why, else `Unavailable` (`saga_engine_stopped`).
    pub(crate) async fn write(&self, write: Write) -> Result<Written> {
        let (answer, answered) = oneshot::channel();
        let sent = self.queue.send((write, answer)).await;
        sent.map_err(|_| self.ended.told())?;
        answered.await.map_err(|_| self.ended.told())?
    }
}

/// Writes until it ends, and then what still waits; or until the journal takes nothing more.
pub(crate) async fn run(journal: &dyn Journal, writes: Writes, mut ends: oneshot::Receiver<()>) {
    let Writes { mut queue, ended } = writes;
    let mut taken = Vec::with_capacity(BATCH_MAX);
    // Batches that are written and not durable yet.
    let mut ahead = JoinSet::new();
    while ended.0.get().is_none() {
        tokio::select! {
            biased;
            _ = &mut ends, if !queue.is_closed() => {
                queue.close();
                continue;
            }
            Some(_) = ahead.join_next() => continue,
            count = queue.recv_many(&mut taken, BATCH_MAX), if ahead.len() < AHEAD_MAX => if count == 0 {
                break;
            },
        }
        // Whoever is ready to run goes first, and is written along: one large batch costs less than two small ones.
        yield_now().await;
        while taken.len() < BATCH_MAX
            && let Ok(more) = queue.try_recv()
        {
            taken.push(more);
        }
        let (batch, answers): (Vec<Write>, Vec<_>) = taken.drain(..).unzip();
        metrics::histogram!("trunkline_saga_batch_writes").record(as_f64(batch.len()));
        match until_written(journal, &batch).await {
            Ok((written, durable)) => {
                ahead.spawn(tell(written, durable, answers, ended.clone()));
            }
            // Dropped, they are told why.
            Err(error) if journal.check().is_err() => ended.because(error),
            Err(_) => one_by_one(journal, batch, answers, &ended).await,
        }
    }
    while ahead.join_next().await.is_some() {}
}

/// One of them is not to the journal's taste: each is told its own.
async fn one_by_one(journal: &dyn Journal, batch: Vec<Write>, answers: Vec<Answer>, ended: &Ended) {
    for (write, answer) in batch.into_iter().zip(answers) {
        match until_written(journal, std::slice::from_ref(&write)).await {
            Ok((written, durable)) => tell(written, durable, vec![answer], ended.clone()).await,
            Err(error) => drop(answer.send(Err(error))),
        }
    }
}

/// Tells what was written, to each his own, when it is durable.
async fn tell(written: Vec<Written>, durable: Durable, answers: Vec<Answer>, ended: Ended) {
    if let Err(error) = durable.await {
        tracing::error!(error = %report(&error), "the sagas' journal did not confirm a batch; nothing more is written");
        for answer in answers {
            answer.send(Err(again(&error))).ok();
        }
        return ended.because(error);
    }
    for (answer, written) in answers.into_iter().zip(written) {
        // Who does not wait any more will read it from the journal.
        answer.send(Ok(written)).ok();
    }
}

/// The same error, for one more who is told; its causes are in the log.
fn again(error: &Error) -> Error {
    let (code, message) = (error.code().to_owned(), error.message().to_owned());
    let same = Error::new(error.kind(), code, message).with_retry(error.retry());
    let facts = error.context();
    facts.fold(same, |same, (key, value)| same.with(key, value))
}

/// Repeats until the journal has written it, refuses it for good, or takes nothing more.
async fn until_written(journal: &dyn Journal, batch: &[Write]) -> Result<(Vec<Written>, Durable)> {
    let (mut pause, longest) = PAUSES;
    loop {
        match journal.write_ahead(batch).await {
            Ok((written, durable)) if written.len() == batch.len() => {
                return Ok((written, durable));
            }
            Ok(_) => return Err(Error::internal("a journal did not answer each write")),
            Err(error) if !is_away(&error) || journal.check().is_err() => return Err(error),
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
