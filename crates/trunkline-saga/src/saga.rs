//! What a saga's function works with.

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytestring::ByteString;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use trunkline_core::{Error, EventData, Result};
use uuid::Uuid;

use crate::Data;
use crate::host::{Host, stable_id};
use crate::journal::{Body, Fault, Instance, Wait};
use crate::live::{Halt, Kind, Live};

pub(crate) mod attempt;
mod branch;
pub(crate) mod child;
mod step;
pub(crate) mod undo;

pub use branch::BRANCHES_MAX;
pub use step::Step;

/// An instance of a saga, as its function sees it. Cheap to clone.
///
/// Each of its operations (a step, a wait, a child) is journaled. When an instance is taken up again its function runs from
/// the beginning, and operations that ended give what they gave; the first that has not goes on. So the function has to make
/// the same operations each time: what depends on time, chance or the world belongs into a step.
///
/// # Guarantees
/// Before an operation begins, all that ended before it is durable. A step may run more than once (a process can die between
/// its effect and its entry), each time with the same [`crate::At::idempotency_key`].
pub struct Saga<H: Host> {
    live: Arc<Live<H>>,
    /// What the places of its operations begin with: nothing, or `hotel/` in a branch.
    scope: ByteString,
    next: Arc<AtomicU64>,
    /// The next operation that has not ended may have been begun before: all so far are from the journal.
    on_frontier: Arc<AtomicBool>,
}

impl<H: Host> Saga<H> {
    pub(crate) fn whole(live: Arc<Live<H>>) -> Self {
        Self {
            scope: ByteString::new(),
            next: Arc::default(),
            on_frontier: Arc::new(AtomicBool::new(live.is_resumed)),
            live,
        }
    }

    /// A part of it whose operations are counted for themselves.
    fn scoped(&self, scope: ByteString) -> Self {
        let on_frontier = self.on_frontier.load(Ordering::Relaxed);
        Self {
            live: self.live.clone(),
            scope,
            next: Arc::default(),
            on_frontier: Arc::new(AtomicBool::new(on_frontier)),
        }
    }

    /// An operation has ended that is not from the journal: what comes after it was begun by nobody.
    fn leave_frontier(&self) {
        self.on_frontier.store(false, Ordering::Relaxed);
    }

    /// Its id.
    pub fn id(&self) -> Uuid {
        self.instance().id
    }

    /// The key that it was started with.
    pub fn key(&self) -> &ByteString {
        &self.instance().key
    }

    /// When it was started.
    pub fn started_at(&self) -> Timestamp {
        self.instance().started_at
    }

    /// How it stood when this process took it.
    pub fn instance(&self) -> &Instance {
        &self.live.instance
    }

    /// An id for something that it makes, always the same for one name.
    pub fn stable_id(&self, name: &str) -> Uuid {
        stable_id(&self.id(), name)
    }

    /// A step: something that is done, and recorded when it is.
    pub fn step<T>(&self, name: impl Into<ByteString>) -> Step<H, T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        Step::new(self.clone(), name.into())
    }

    /// Rests for so long, also beyond the end of the process.
    ///
    /// # Errors
    /// That it was cancelled.
    pub async fn sleep(&self, name: impl Into<ByteString>, time: Duration) -> Result<()> {
        self.until(name.into(), None, time).await.map(drop)
    }

    /// Waits for a signal of this name; none when it did not come in time. A signal that came before it was waited for counts.
    ///
    /// # Errors
    /// That the saga was cancelled. A signal that is no `T` parks the instance.
    pub async fn signal<T: DeserializeOwned>(
        &self,
        name: impl Into<ByteString>,
        within: Duration,
    ) -> Result<Option<T>> {
        let name = name.into();
        let received = self.until(name.clone(), Some(name), within).await?;
        match received {
            None => Ok(None),
            Some(data) => Ok(Some(self.decoded(&data).await)),
        }
    }

    /// Waits for an event of its flow; none when it did not come in time.
    ///
    /// # Errors
    /// As [`Saga::signal`].
    pub async fn event<E: EventData + DeserializeOwned>(
        &self,
        within: Duration,
    ) -> Result<Option<E>> {
        self.signal(E::TYPE, within).await
    }

    /// Says how it stands, for whoever asks; durable with whatever it does next.
    ///
    /// # Errors
    /// `TooLarge` above the bound of [`crate::DATA_BYTES_MAX`].
    pub fn say<T: Serialize>(&self, status: &T) -> Result<()> {
        self.live.say(Data::of(status)?);
        Ok(())
    }

    /// A part whose operations are counted for themselves, for what runs side by side:
    /// `join!(hotel(saga.branch("hotel")), flight(saga.branch("flight")))`. Its name is used once.
    #[must_use]
    pub fn branch(&self, name: &str) -> Self {
        let scope = format!("{}{name}/", self.scope);
        self.scoped(scope.into())
    }

    /// The place of the next operation.
    fn enter(&self) -> ByteString {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{}{n}", self.scope).into()
    }

    async fn until(
        &self,
        name: ByteString,
        message: Option<ByteString>,
        within: Duration,
    ) -> Result<Option<Data>> {
        let (place, live) = (self.enter(), &self.live);
        let began = live.env().now();
        let mut known = None;
        for entry in live.past(&place, &name, Kind::Wait) {
            match entry.body {
                Body::Waits(wait) => known = wait.until.map(|until| (entry.began, until)),
                Body::Elapsed => return Ok(None),
                Body::Received { data, .. } => return Ok(Some(data)),
                Body::Cancelled { error, .. } => return Err(error.error()),
                _ => {}
            }
        }
        self.go_on(&place).await;
        let (began, until) = known.unwrap_or_else(|| {
            let until = live.env().after(within);
            let wait = Wait {
                message: message.clone(),
                until: Some(until),
            };
            live.note(&place, &name, began, Body::Waits(wait));
            (began, until)
        });
        let ready = |live: &Live<H>| {
            if let Some(error) = live.cancelled(&place, &name, false) {
                return Some(Err(error));
            }
            live.take_message(message.as_deref()?).map(Ok)
        };
        let mut ended = live.rest(Some(until), ready).await;
        if ended.is_none() && message.is_some() {
            // What was told in time counts, also where this process has not heard of it.
            live.read_messages().await;
            ended = ready(live);
        }
        self.leave_frontier();
        match ended {
            None => {
                live.note(&place, &name, began, Body::Elapsed);
                Ok(None)
            }
            Some(Err(error)) => Err(error),
            Some(Ok(message)) => {
                let body = Body::Received {
                    message: message.id,
                    data: message.data.clone(),
                };
                live.note(&place, &name, began, body);
                Ok(Some(message.data))
            }
        }
    }

    /// An operation that has not ended begins only here: not where the instance halts, nor in a branch that lost.
    async fn go_on(&self, place: &str) {
        if self.live.is_halted() || self.live.is_lost(place) {
            pending::<()>().await;
        }
        self.live.begins().await;
    }

    /// What the journal holds as a `T`; what is none parks the instance.
    async fn decoded<T: DeserializeOwned>(&self, data: &Data) -> T {
        match data.get() {
            Ok(value) => value,
            Err(error) => self.parked(&error).await,
        }
    }

    async fn parked<T>(&self, error: &Error) -> T {
        self.live.halted(Halt::Park(Fault::of(error))).await
    }
}

impl<H: Host> Clone for Saga<H> {
    fn clone(&self) -> Self {
        Self {
            live: self.live.clone(),
            scope: self.scope.clone(),
            next: self.next.clone(),
            on_frontier: self.on_frontier.clone(),
        }
    }
}

impl<H: Host> fmt::Debug for Saga<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saga")
            .field("saga", &self.instance().saga)
            .field("key", self.key())
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}
