//! What a handler works with.

mod finish;

use std::collections::HashMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex as Lock;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;
use trunkline_call::{CallKeys, Client};
use trunkline_core::{
    ByteString, Context, Env, Envelope, Error, ErrorKind, EventData, Result, Timestamp,
};
use trunkline_realtime::Stage;
use trunkline_security::{AuditEntry, AuditOutcome};
use trunkline_store::{Reader, Tx};
use trunkline_telemetry::Span;
use uuid::Uuid;

use crate::runtime::Runtime;

pub(crate) use finish::Completion;

/// The work at hand: a request, an event or a job, in its service. Cheap to clone.
///
/// Its transaction opens when it is first asked for, and commits when the handler returns `Ok`; on `Err`
/// everything is undone. Events are published with it.
#[derive(Clone)]
pub struct Cx(Arc<Unit>);

struct Unit {
    runtime: Arc<Runtime>,
    context: Context,
    tx: Arc<Mutex<Option<Tx>>>,
    /// The transaction is shared with other events of a batch, and whoever made it commits it.
    shared: bool,
    /// What they send, who share it.
    batch: Option<Stage>,
    /// What is done is undone: it only shows how it would end.
    rehearsal: bool,
    /// The event that this work handles, for the inbox.
    inbox: Option<Inbox>,
    /// The id of what an idempotent request or a saga's step makes.
    stable_id: Option<Uuid>,
    /// The attempt of a saga's step that this work is.
    step: Option<Step>,
    outgoing: Lock<Vec<(Envelope, Option<Timestamp>)>>,
    /// For the audit log.
    notes: Lock<Vec<AuditEntry>>,
    /// What goes to browsers once it is committed.
    stage: Stage,
    /// It touched commands to devices, or sagas. Those who share a transaction share this.
    touched: Arc<AtomicBool>,
    /// It has read what is committed: what it says is told when that is on disk.
    has_read: AtomicBool,
}

impl Drop for Unit {
    fn drop(&mut self) {
        // Whoever still holds a socket of this work sends at once from now on.
        self.stage.drop_all();
    }
}

/// An attempt of a saga's step.
struct Step {
    /// Goes with every call that may change something.
    key: ByteString,
    /// Of each service that it calls, what its calls carry.
    keys: Lock<HashMap<String, CallKeys>>,
    /// Ends with the attempt.
    span: Lock<Option<Span>>,
}

impl Step {
    /// What calls of this service carry: one count for all of them, however often the client is asked for.
    fn keys(&self, service: &str) -> CallKeys {
        let mut keys = self.keys.lock();
        keys.entry(service.to_owned())
            .or_insert_with(|| CallKeys::new(self.key.clone()))
            .clone()
    }
}

/// A transaction that several events share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) tx: Arc<Mutex<Option<Tx>>>,
    /// It will be rolled back.
    pub(crate) rehearsal: bool,
    /// One of them touched what others are told of after the commit.
    pub(crate) touched: Arc<AtomicBool>,
    /// What goes to browsers after the commit.
    pub(crate) stage: Stage,
}

#[derive(Clone)]
struct Inbox {
    group: ByteString,
    event_id: ByteString,
}

/// A guard that waits longer for another of the same work waits for itself; a request has 5 s.
const GUARD_WITHIN: Duration = Duration::from_secs(4);

/// Notes for the audit log that one piece of work may make.
const NOTES_MAX: usize = 1_000;

/// The code of the error that says that an event was handled before.
pub(crate) const DUPLICATE: &str = "event_duplicate";

impl Cx {
    pub(crate) fn new(runtime: Arc<Runtime>, context: Context) -> Self {
        Self(Arc::new(Unit {
            runtime,
            context,
            tx: Arc::default(),
            shared: false,
            batch: None,
            rehearsal: false,
            inbox: None,
            stable_id: None,
            step: None,
            outgoing: Lock::default(),
            notes: Lock::default(),
            stage: Stage::default(),
            touched: Arc::default(),
            has_read: AtomicBool::default(),
        }))
    }

    /// The work of a request whose caller named it, before anything is done.
    pub(crate) fn named(runtime: Arc<Runtime>, context: Context, id: Uuid) -> Self {
        let Self(mut unit) = Self::new(runtime, context);
        if let Some(unit) = Arc::get_mut(&mut unit) {
            unit.stable_id = Some(id);
        }
        Self(unit)
    }

    /// An attempt of a saga's step, which is this span.
    pub(crate) fn of_step(
        runtime: Arc<Runtime>,
        mut context: Context,
        (key, id, span): (ByteString, Uuid, Span),
    ) -> Self {
        context.trace = span.context();
        let Self(mut unit) = Self::new(runtime, context);
        if let Some(unit) = Arc::get_mut(&mut unit) {
            unit.stable_id = Some(id);
            unit.step = Some(Step {
                key,
                keys: Lock::default(),
                span: Lock::new(Some(span)),
            });
        }
        Self(unit)
    }

    /// The work that an event is; alone, or within a transaction that is shared.
    pub(crate) fn of_event(
        runtime: Arc<Runtime>,
        group: &ByteString,
        event: &Envelope,
        shared: Option<Shared>,
    ) -> Self {
        let mut context = Context::of_event(event, &runtime.env);
        // The consumer put the span of its call into the envelope: what follows is part of that.
        context.trace = event.trace.unwrap_or(context.trace);
        Self(Arc::new(Unit {
            runtime,
            context,
            shared: shared.is_some(),
            rehearsal: shared.as_ref().is_some_and(|shared| shared.rehearsal),
            touched: shared
                .as_ref()
                .map(|shared| shared.touched.clone())
                .unwrap_or_default(),
            batch: shared.as_ref().map(|shared| shared.stage.clone()),
            has_read: AtomicBool::default(),
            tx: shared.map(|shared| shared.tx).unwrap_or_default(),
            inbox: Some(Inbox {
                group: group.clone(),
                event_id: event.id.clone(),
            }),
            stable_id: None,
            step: None,
            outgoing: Lock::default(),
            notes: Lock::default(),
            stage: Stage::default(),
        }))
    }

    /// The transaction of this work, opened when first asked for. While the guard lives, others who ask wait.
    ///
    /// # Errors
    /// What the store says when none can be opened; `Internal` when another guard of this work is held for 4 s.
    pub async fn tx(&self) -> Result<TxGuard> {
        let lock = timeout(GUARD_WITHIN, self.0.tx.clone().lock_owned());
        let mut guard = lock.await.map_err(|_| {
            Error::internal("another guard of this work holds the transaction: drop it before asking for the next")
        })?;
        if guard.is_none() {
            let mut tx = self.0.runtime.store.begin().await?;
            self.record(&mut tx).await?;
            *guard = Some(tx);
        }
        Ok(TxGuard {
            guard,
            cx: self.clone(),
        })
    }

    /// Notes the event in the inbox; an event that is there already ends the work.
    async fn record(&self, tx: &mut Tx) -> Result<()> {
        if let (Some(inbox), false) = (&self.0.inbox, self.0.shared)
            && !tx.first_time(&inbox.group, &inbox.event_id).await?
        {
            return Err(Error::conflict(DUPLICATE, "the event was handled before"));
        }
        Ok(())
    }

    /// A connection to read with, outside the transaction: it sees what is committed. The answer of this work is given when that
    /// is on disk; for calls made before that, [`Store::settled`](trunkline_store::Store::settled) waits for it.
    ///
    /// # Errors
    /// What the store says when none is free.
    pub async fn read(&self) -> Result<Reader> {
        self.0.has_read.store(true, Ordering::Release);
        self.0.runtime.store.read().await
    }

    /// Publishes an event when this work commits.
    ///
    /// # Errors
    /// `PermissionDenied` when the service does not declare that it publishes this event.
    pub async fn publish<T: EventData>(&self, event: T) -> Result<()> {
        self.push(&event, None)
    }

    /// Publishes an event some time after this work commits; durable meanwhile.
    ///
    /// # Errors
    /// As [`Cx::publish`].
    pub async fn publish_in<T: EventData>(&self, wait: Duration, event: T) -> Result<()> {
        self.push(&event, Some(self.env().after(wait)))
    }

    fn push<T: EventData>(&self, event: &T, at: Option<Timestamp>) -> Result<()> {
        let runtime = &self.0.runtime;
        if !runtime.publishes.contains(T::TYPE) {
            let error = Error::new(
                ErrorKind::PermissionDenied,
                "publish_undeclared",
                "the service does not declare that it publishes this event: add .publishes::<…>()",
            )
            .with("service", &runtime.name)
            .with("event", T::TYPE);
            return Err(self.refused("publish", T::TYPE, error));
        }
        let mut envelope =
            Envelope::of(event, runtime.name.clone(), &self.0.context, &runtime.env)?;
        if T::ENCRYPTED {
            // From here on, in the outbox as on the bus, nobody reads it without the key.
            runtime.seal(&mut envelope)?;
        }
        self.0.outgoing.lock().push((envelope, at));
        Ok(())
    }

    /// A client of another service, in the context of this work.
    ///
    /// # Errors
    /// `PermissionDenied` when the service does not declare that it calls that one.
    pub fn service(&self, name: &str) -> Result<Client> {
        let runtime = &self.0.runtime;
        if !runtime.calls.contains(name) {
            let error = Error::new(
                ErrorKind::PermissionDenied,
                "call_undeclared",
                "the service does not declare that it calls this one: add .calls(…)",
            )
            .with("service", &runtime.name)
            .with("target", name);
            return Err(self.refused("call", name, error));
        }
        let channel = runtime.network.channel(runtime.name.clone(), name);
        let client = Client::new(channel, self.0.context.clone());
        let client = match &self.0.step {
            Some(step) => client.with_keys(step.keys(name)),
            None => client,
        };
        Ok(if self.0.rehearsal {
            client.read_only()
        } else {
            client
        })
    }

    /// Whether this is a dry run: all that is done is undone, and calls to other services may only read. A handler that
    /// has effects elsewhere (a mail, a file) asks, and leaves them out.
    pub fn is_rehearsal(&self) -> bool {
        self.0.rehearsal
    }

    /// Trace, correlation, cause, user and deadline of this work.
    pub fn context(&self) -> &Context {
        &self.0.context
    }

    /// The verified user on whose behalf it is done.
    ///
    /// # Errors
    /// `Unauthenticated` when there is none.
    pub fn user(&self) -> Result<ByteString> {
        self.0.context.user_id.clone().ok_or_else(|| {
            Error::new(
                ErrorKind::Unauthenticated,
                "user_missing",
                "this needs a signed-in user",
            )
        })
    }

    /// Goes on only if the user may act as `role`, as the token says that the gateway verified.
    ///
    /// An event carries its user and no roles, so this is for requests.
    ///
    /// # Errors
    /// `Unauthenticated` without a user; `PermissionDenied` (403) for one who has not this role.
    pub fn require_role(&self, role: &str) -> Result<()> {
        let user = self.user()?;
        if self.0.context.user_roles.iter().any(|has| has == role) {
            return Ok(());
        }
        tracing::info!(
            service = &**self.service_name(),
            user = &*user,
            role,
            "a role is missing"
        );
        let error = Error::new(
            ErrorKind::PermissionDenied,
            "role_missing",
            format!("this needs the role `{role}`, which the user does not have"),
        );
        Err(self.refused("role", role, error))
    }

    /// Notes a change in the service's audit log: `action` such as `order.cancel`, and what was changed. It takes
    /// effect with this work, or not at all.
    ///
    /// # Errors
    /// `TooLarge` above 1,000 notes of one work.
    pub fn audit(&self, action: &str, object: &str) -> Result<()> {
        let entry = self.entry(action, object, AuditOutcome::Done);
        let mut notes = self.0.notes.lock();
        if notes.len() >= NOTES_MAX {
            let text = "one piece of work notes too much in the audit log";
            return Err(Error::new(ErrorKind::TooLarge, "audit_too_large", text)
                .with("notes_max", NOTES_MAX));
        }
        notes.push(entry);
        Ok(())
    }

    /// Notes a refusal, which stays when this work is undone.
    fn refused(&self, action: &str, object: &str, error: Error) -> Error {
        let entry = self.entry(action, object, AuditOutcome::Refused);
        let why = format!("{}: {error}", error.code());
        self.0.runtime.audit.record(entry.because(why));
        error
    }

    fn entry(&self, action: &str, object: &str, outcome: AuditOutcome) -> AuditEntry {
        let context = &self.0.context;
        let actor = match &context.user_id {
            Some(user) => format!("user:{user}"),
            None => self.service_name().to_string(),
        };
        AuditEntry::new(actor, action, object, outcome, self.env())
            .in_flow(context.correlation_id.clone())
    }

    /// Clock, randomness and ids.
    pub fn env(&self) -> &Env {
        &self.0.runtime.env
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.env().now()
    }

    /// An id for what this work makes: the same one whenever a request comes again with its idempotency key, and at every
    /// attempt of a saga's step, also after a crash, so that whom it is told to does nothing twice. Other work gets a new one
    /// each time.
    pub fn stable_id(&self) -> Uuid {
        self.0.stable_id.unwrap_or_else(|| self.env().id())
    }

    /// The service's name.
    pub fn service_name(&self) -> &ByteString {
        &self.0.runtime.name
    }

    /// A value that the service was given with `.state(…)`.
    ///
    /// # Errors
    /// `Internal` when it was given none of this type.
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<Arc<T>> {
        self.0.runtime.states.get().ok_or_else(|| {
            Error::internal("the service was given no such state: add .state(…)")
                .with("service", self.service_name())
                .with("type", std::any::type_name::<T>())
        })
    }

    /// The service's own section of the configuration; `{}` where there is none.
    ///
    /// # Errors
    /// `InvalidInput` when the section does not fit `T`, saying what was expected.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T> {
        self.0.runtime.config.section(self.service_name())
    }

    /// Whoever sends commands to devices, or runs sagas, is told when this work commits.
    pub(crate) fn touches(&self) {
        self.0.touched.store(true, Ordering::Release);
    }

    pub(crate) fn runtime(&self) -> &Arc<Runtime> {
        &self.0.runtime
    }

    /// What goes to browsers once this work has committed.
    pub(crate) fn stage(&self) -> &Stage {
        &self.0.stage
    }

    /// The attempt of a saga's step is over.
    pub(crate) fn end_step(&self, failed: Option<&Error>) {
        let span = self
            .0
            .step
            .as_ref()
            .and_then(|step| step.span.lock().take());
        if let (Some(mut span), Some(error)) = (span, failed) {
            span.fail(error);
        }
    }
}

impl fmt::Debug for Cx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cx")
            .field("service", &self.0.runtime.name)
            .field("context", &self.0.context)
            .finish_non_exhaustive()
    }
}

/// The transaction of the work at hand; `conn()` is for sqlx.
#[derive(Debug)]
pub struct TxGuard {
    guard: OwnedMutexGuard<Option<Tx>>,
    cx: Cx,
}

impl TxGuard {
    /// Publishes an event when the work commits; the same as [`Cx::publish`].
    ///
    /// # Errors
    /// As [`Cx::publish`].
    pub async fn publish<T: EventData>(&mut self, event: T) -> Result<()> {
        self.cx.push(&event, None)
    }

    /// Publishes an event some time after the work commits; the same as [`Cx::publish_in`].
    ///
    /// # Errors
    /// As [`Cx::publish`].
    pub async fn publish_in<T: EventData>(&mut self, wait: Duration, event: T) -> Result<()> {
        self.cx.publish_in(wait, event).await
    }
}

impl Deref for TxGuard {
    type Target = Tx;

    fn deref(&self) -> &Tx {
        self.guard
            .as_ref()
            .expect("the guard is made with the transaction in it")
    }
}

impl DerefMut for TxGuard {
    fn deref_mut(&mut self) -> &mut Tx {
        self.guard
            .as_mut()
            .expect("the guard is made with the transaction in it")
    }
}
