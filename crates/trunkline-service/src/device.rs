//! The devices of a service: what they report, whether they are there, and what they are told to do.

mod book;
mod commands;
mod start;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::Notify;
use trunkline_core::{Error, Event, EventData, Result};
use trunkline_device::{
    CommandSettled, CommandTopics, Declared, DeviceTopic, Pattern, PresenceChanged, RefusalHook,
    Report,
};

use crate::Cx;
use crate::events::{Reaction, reaction};

pub use commands::CommandState;
pub(crate) use start::{TABLES, start};

type Handler<T> = Arc<dyn Fn(Cx, T) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// The devices of a service. Where their broker is, the configuration says, in `[devices]`.
#[derive(Default)]
pub struct Devices {
    declared: Declared,
    reactions: Vec<Reaction>,
    presence: Option<Handler<PresenceChanged>>,
    outcome: Option<Handler<CommandSettled>>,
    /// The first topic that is none.
    wrong: Option<Error>,
}

impl Devices {
    /// No devices yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Handles what devices report on a topic, each report in a transaction of its own. The report comes as an event whose
    /// key is the device; [`trunkline_device::capture`] says what the other captures stand for.
    ///
    /// # Guarantees
    /// Reports of one device are handled in order. One that fails is tried again, and then parked, as an event is. It is
    /// acknowledged to the broker after the commit.
    #[must_use]
    pub fn report<T, F, W>(self, topic: impl Into<DeviceTopic>, handler: F) -> Self
    where
        T: EventData,
        F: Fn(Cx, Event<T>) -> W + Send + Sync + 'static,
        W: Future<Output = Result<()>> + Send + 'static,
    {
        self.with_report(topic.into(), None, handler)
    }

    /// The same, up to `batch_max` of them in one transaction with a savepoint each: for many devices, where the handler only
    /// writes to its store. It takes effect when all reports of the service are declared so.
    #[must_use]
    pub fn report_batch<T, F, W>(
        self,
        topic: impl Into<DeviceTopic>,
        batch_max: usize,
        handler: F,
    ) -> Self
    where
        T: EventData,
        F: Fn(Cx, Event<T>) -> W + Send + Sync + 'static,
        W: Future<Output = Result<()>> + Send + 'static,
    {
        self.with_report(topic.into(), Some(batch_max.max(1)), handler)
    }

    fn with_report<T, F, W>(mut self, topic: DeviceTopic, batch: Option<usize>, handler: F) -> Self
    where
        T: EventData,
        F: Fn(Cx, Event<T>) -> W + Send + Sync + 'static,
        W: Future<Output = Result<()>> + Send + 'static,
    {
        match Report::of::<T>(topic) {
            Ok(report) => self.declared.reports.push(report),
            Err(error) => self.note(error),
        }
        self.reactions.push(reaction(batch, handler));
        self
    }

    /// Handles that a device came or went. Devices say `online` on this topic when they connect, and name `offline` as
    /// their last will there, both with QoS 1 and retained.
    ///
    /// # Guarantees
    /// Each change is handled once, with what is kept of it in one transaction, also over restarts.
    #[must_use]
    pub fn presence<F, W>(mut self, topic: &str, handler: F) -> Self
    where
        F: Fn(Cx, PresenceChanged) -> W + Send + Sync + 'static,
        W: Future<Output = Result<()>> + Send + 'static,
    {
        match Pattern::new(topic) {
            Ok(pattern) => self.declared.presence = Some(pattern),
            Err(error) => self.note(error),
        }
        self.presence = Some(Arc::new(move |cx, change| Box::pin(handler(cx, change))));
        self
    }

    /// Lets handlers send commands with [`Cx::command`], and handles what became of each.
    ///
    /// # Guarantees
    /// Each command's end is handled once, with what is kept of it in one transaction.
    #[must_use]
    pub fn commands<F, W>(mut self, commands: &str, replies: &str, handler: F) -> Self
    where
        F: Fn(Cx, CommandSettled) -> W + Send + Sync + 'static,
        W: Future<Output = Result<()>> + Send + 'static,
    {
        match CommandTopics::new(commands, replies) {
            Ok(topics) => self.declared.commands = Some(topics),
            Err(error) => self.note(error),
        }
        self.outcome = Some(Arc::new(move |cx, settled| Box::pin(handler(cx, settled))));
        self
    }

    /// Says which devices are known; what others send is refused. Without it they are all that the broker lets in.
    #[must_use]
    pub fn known(mut self, known: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.declared.known = Some(Arc::new(known));
        self
    }

    /// What a device sends is done on behalf of the user of its name, who then is the user of the events and calls that
    /// follow, and of what its commands and its coming and going lead to. For platforms in which no person has a device's
    /// name.
    #[must_use]
    pub fn as_users(mut self) -> Self {
        self.declared.as_users = true;
        self
    }

    /// Is told of what is refused, for each device once a minute at most. It must not block.
    #[must_use]
    pub fn on_refusal(mut self, hook: RefusalHook) -> Self {
        self.declared.on_refusal = Some(hook);
        self
    }

    /// What the gateway listens to: for the broker's files, see [`trunkline_device::mosquitto`].
    pub fn declared(&self) -> &Declared {
        &self.declared
    }

    fn note(&mut self, error: Error) {
        self.wrong.get_or_insert(error);
    }

    /// Checks the topics.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(wrong) = &self.wrong {
            let same = Error::invalid(wrong.code().to_owned(), wrong.message().to_owned());
            return Err(wrong
                .context()
                .fold(same, |error, (key, value)| error.with(key, value)));
        }
        self.declared.check()
    }
}

impl fmt::Debug for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Devices").field(&self.declared).finish()
    }
}

/// What the handlers of a service share of its devices.
pub(crate) struct Hub {
    outcome: Option<Handler<CommandSettled>>,
    presence: Option<Handler<PresenceChanged>>,
    /// Commands were added or have ended, and that is committed: whoever sends them looks.
    pub(crate) changed: Arc<Notify>,
    /// The same, for whoever waits for an end.
    settled: Notify,
    commands_max: u32,
    as_users: bool,
}

impl Hub {
    pub(crate) fn new(devices: &Devices, commands_max: u32) -> Self {
        Self {
            outcome: devices.outcome.clone(),
            presence: devices.presence.clone(),
            changed: Arc::default(),
            settled: Notify::new(),
            commands_max,
            as_users: devices.declared.as_users,
        }
    }

    /// Work that touched commands is committed.
    pub(crate) fn committed(&self) {
        if self.outcome.is_some() {
            self.changed.notify_one();
            self.settled.notify_waiters();
        }
    }
}
