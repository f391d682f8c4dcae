//! A step: what is done once in effect, and recorded.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytestring::ByteString;
use futures::future::{BoxFuture, pending};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use trunkline_core::{Error, Result, Retry};

use super::Saga;
use super::attempt::once;
use super::undo::{How, Make, Undo, UndoStep};
use crate::Data;
use crate::host::{At, Host};
use crate::journal::{Body, Fault};
use crate::live::{Halt, Kind, Live};
use crate::policy::{ATTEMPT_WITHIN, Retries, STEP, UNDO};

/// A step that is being described; [`Step::run`] makes it.
#[must_use = "a step does nothing until it is run"]
pub struct Step<H: Host, T> {
    saga: Saga<H>,
    name: ByteString,
    input: Option<Data>,
    retries: Retries,
    within: Duration,
    parks: bool,
    undo: Option<Compensation<H, T>>,
}

/// Takes back what a step gave.
type Takes<H, T> =
    Arc<dyn Fn(<H as Host>::Work, Option<T>) -> BoxFuture<'static, Result<()>> + Send + Sync>;

struct Compensation<H: Host, T> {
    run: Takes<H, T>,
    retries: Retries,
}

impl<H, T> Step<H, T>
where
    H: Host,
    T: Serialize + DeserializeOwned + Send + 'static,
{
    pub(super) fn new(saga: Saga<H>, name: ByteString) -> Self {
        Self {
            saga,
            name,
            input: None,
            retries: STEP,
            within: ATTEMPT_WITHIN,
            parks: false,
            undo: None,
        }
    }

    /// Shows what it is given to whoever looks at the instance. What can't be written as JSON is not shown.
    pub fn input(mut self, input: &impl Serialize) -> Self {
        self.input = Data::of(input).ok();
        self
    }

    /// How often it is tried; without this three times, 1 s to 10 s apart. An error that is permanent is not tried again.
    pub fn retries(mut self, retries: Retries) -> Self {
        self.retries = retries;
        self
    }

    /// How long one attempt may take; without this 30 s. One that took longer may have had its effect.
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = limit;
        self
    }

    /// When all attempts have failed it is parked for a person, instead of failing.
    pub fn or_park(mut self) -> Self {
        self.parks = true;
        self
    }

    /// What takes its effect back when the saga fails later. It is given what the step gave, or `None` where nobody knows
    /// whether the step had its effect: when its process died or its time was up.
    ///
    /// # Guarantees
    /// Compensations run one after the other, the last step's first, each until it is done: ten times, 1 s to a minute apart,
    /// unless [`Step::undo_retries`] says otherwise. One that gives up parks the instance. It may run twice.
    pub fn undo<F, W>(mut self, compensation: F) -> Self
    where
        F: Fn(H::Work, Option<T>) -> W + Send + Sync + 'static,
        W: Future<Output = Result<()>> + Send + 'static,
    {
        self.undo = Some(Compensation {
            run: Arc::new(move |work, output| Box::pin(compensation(work, output))),
            retries: UNDO,
        });
        self
    }

    /// How often its compensation is tried.
    pub fn undo_retries(mut self, retries: Retries) -> Self {
        if let Some(undo) = &mut self.undo {
            undo.retries = retries;
        }
        self
    }

    /// Makes it, or gives what it gave.
    ///
    /// # Errors
    /// What the last attempt said, or that the saga was cancelled.
    pub fn run<F, W>(self, attempt: F) -> impl Future<Output = Result<T>> + Send
    where
        F: Fn(H::Work) -> W + Send + Sync + 'static,
        W: Future<Output = Result<T>> + Send + 'static,
    {
        // Its place is that of the call, whenever it is awaited.
        let place = self.saga.enter();
        self.make(place, attempt)
    }

    async fn make<F, W>(self, place: ByteString, attempt: F) -> Result<T>
    where
        F: Fn(H::Work) -> W + Send + Sync + 'static,
        W: Future<Output = Result<T>> + Send + 'static,
    {
        let live = self.saga.live.clone();
        let mut begun = Begun {
            live: live.clone(),
            place,
            name: self.name.clone(),
            undo: None,
        };
        if let Some(Compensation { run, retries }) = self.undo {
            begun.undo = Some((undo_of::<H, T>(run), retries, self.within));
        }
        let mut course = Course::default();
        for entry in live.past(&begun.place, &begun.name, Kind::Step) {
            match entry.body {
                Body::Done { output, .. } => {
                    begun.ended(entry.seq, Some(output.clone()));
                    return Ok(self.saga.decoded(&output).await);
                }
                Body::Failed { error, .. } => {
                    return Err(course.failed(&mut begun, entry.seq, error.error()));
                }
                Body::Cancelled { error, .. } => {
                    return Err(course.failed(&mut begun, entry.seq, error.error()));
                }
                Body::Tried {
                    attempt,
                    error,
                    next,
                } => course.tried(attempt, &error.error(), next),
                _ => {}
            }
        }
        if live.is_lost(&begun.place) || live.is_halted() {
            // Dropped as one of whose effect nobody knows.
            return pending().await;
        }
        live.begins().await;
        // Who had it before may have died in the middle of an attempt.
        course.unsure |= self.saga.on_frontier.load(Ordering::Relaxed);
        let plan = Plan {
            input: self.input,
            retries: self.retries,
            within: self.within,
            parks: self.parks,
        };
        let ended = plan.carry_out(&mut begun, course, attempt).await;
        self.saga.leave_frontier();
        ended
    }
}

/// How the attempts went so far.
#[derive(Default)]
struct Course {
    attempts: u32,
    next: Option<Timestamp>,
    /// One of them may have had its effect.
    unsure: bool,
}

impl Course {
    fn tried(&mut self, attempt: u32, error: &Error, next: Timestamp) {
        self.attempts = attempt;
        self.next = Some(next);
        self.unsure |= error.retry() == Retry::Unknown;
    }

    /// The error with which it ends. The journal has it with what is not known of any attempt: whoever reads that after another
    /// crash has to undo the step too.
    fn last(&self, error: Error) -> Error {
        match self.unsure {
            true => error.with_retry(Retry::Unknown),
            false => error,
        }
    }

    fn failed<H: Host>(&self, begun: &mut Begun<H>, seq: u64, error: Error) -> Error {
        if self.unsure || error.retry() == Retry::Unknown {
            begun.ended(seq, None);
        } else {
            begun.undo = None;
        }
        error
    }
}

/// How a step is made.
struct Plan {
    input: Option<Data>,
    retries: Retries,
    within: Duration,
    parks: bool,
}

impl Plan {
    async fn carry_out<H, T, F, W>(
        self,
        begun: &mut Begun<H>,
        mut course: Course,
        attempt: F,
    ) -> Result<T>
    where
        H: Host,
        T: Serialize + Send + 'static,
        F: Fn(H::Work) -> W + Send + Sync,
        W: Future<Output = Result<T>> + Send,
    {
        let live = begun.live.clone();
        let began = live.env().now();
        loop {
            let cancelled = match course.next.take() {
                None => live.cancelled(&begun.place, &begun.name, course.unsure),
                Some(at) => {
                    let (place, name) = (begun.place.clone(), begun.name.clone());
                    let unsure = course.unsure;
                    live.rest(Some(at), move |live| live.cancelled(&place, &name, unsure))
                        .await
                }
            };
            if let Some(error) = cancelled {
                let error = course.last(error);
                return Err(course.failed(begun, live.next_seq(), error));
            }
            let busy = live.busy();
            let number = course.attempts + 1;
            let at = begun.at(number, false);
            let input = self.input.clone();
            let done = |output: Data| Body::Done {
                input: input.clone(),
                output,
                attempt: number,
                by: None,
            };
            match once(&busy, &at, self.within, (began, &attempt, done)).await {
                Ok((value, seq, output)) => {
                    begun.ended(seq, Some(output));
                    return Ok(value);
                }
                Err(error) => match self.retries.pause(number, &error, live.env()) {
                    Some(pause) => {
                        let next = live.env().after(pause);
                        let body = Body::Tried {
                            attempt: number,
                            error: Fault::of(&error),
                            next,
                        };
                        live.note(&begun.place, &begun.name, began, body);
                        course.tried(number, &error, next);
                    }
                    None if self.parks => {
                        let body = Body::Tried {
                            attempt: number,
                            error: Fault::of(&error),
                            next: live.env().now(),
                        };
                        live.note(&begun.place, &begun.name, began, body);
                        return live.halted(Halt::Park(Fault::of(&error))).await;
                    }
                    None => {
                        let error = course.last(error);
                        let body = Body::Failed {
                            input,
                            error: Fault::of(&error),
                            attempt: number,
                        };
                        let seq = live.note(&begun.place, &begun.name, began, body);
                        return Err(course.failed(begun, seq, error));
                    }
                },
            }
        }
    }
}

/// A step that was begun. Dropped before it ended, nobody knows whether it had its effect.
struct Begun<H: Host> {
    live: Arc<Live<H>>,
    place: ByteString,
    name: ByteString,
    undo: Option<(Make<H>, Retries, Duration)>,
}

impl<H: Host> Begun<H> {
    fn at(&self, attempt: u32, undo: bool) -> At {
        At {
            instance: self.live.instance.clone(),
            place: self.place.clone(),
            name: self.name.clone(),
            attempt,
            undo,
        }
    }

    /// It has ended with this entry: from now on it is to be undone with what it gave.
    fn ended(&mut self, seq: u64, output: Option<Data>) {
        if let Some((make, retries, within)) = self.undo.take() {
            self.live.push_undo(Undo {
                place: self.place.clone(),
                name: self.name.clone(),
                seq,
                how: How::Step(UndoStep {
                    make,
                    output,
                    retries,
                    within,
                }),
            });
        }
    }
}

impl<H: Host> Drop for Begun<H> {
    fn drop(&mut self) {
        let seq = self.live.next_seq();
        self.ended(seq, None);
    }
}

fn undo_of<H, T>(run: Takes<H, T>) -> Make<H>
where
    H: Host,
    T: DeserializeOwned + 'static,
{
    Arc::new(move |work, output: Option<&Data>| {
        let output = output.map(Data::get).transpose()?;
        Ok(run(work, output))
    })
}

impl<H: Host, T> fmt::Debug for Step<H, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("name", &self.name)
            .field("retries", &self.retries)
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}
