//! Events of the bus on their way to rooms.

mod follow;
mod template;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest, Sha256};
use trunkline_bus::{Handler, Outcome};
use trunkline_core::{
    ByteString, Envelope, Error, ErrorKind, Event, EventData, Result, SchemaRegistry,
};
use trunkline_realtime::{Of, Offset, Once};

pub(crate) use follow::Follower;
pub(crate) use template::Template;

use crate::Cx;
use crate::events::{Reaction, react, reaction};
use crate::runtime::Runtime;

/// To whom an event of the bus is told, and what of it.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Tell {
    rooms: Vec<ByteString>,
    is_for_all: bool,
    data: Option<Box<RawValue>>,
    latest: Option<ByteString>,
}

impl Tell {
    /// Those in a room.
    pub fn to(room: impl Into<ByteString>) -> Self {
        Self::nobody().and(room)
    }

    /// Everybody in the namespace.
    pub fn everybody() -> Self {
        Self {
            is_for_all: true,
            ..Self::default()
        }
    }

    /// Nobody: this event is of no interest.
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Those in another room too.
    pub fn and(mut self, room: impl Into<ByteString>) -> Self {
        self.rooms.push(room.into());
        self
    }

    /// This is what they get, and not the event's data.
    ///
    /// # Errors
    /// `InvalidInput` when it can't be written as JSON.
    pub fn with(mut self, data: &impl Serialize) -> Result<Self> {
        self.data = Some(raw(data)?);
        Ok(self)
    }

    /// Only the latest of a key is worth sending to who is behind.
    pub fn latest(mut self, key: impl Into<ByteString>) -> Self {
        self.latest = Some(key.into());
        self
    }

    async fn send(self, namespace: &Of, event: &'static str, once: Once) -> Result<()> {
        let data = match self.data {
            Some(data) if self.is_for_all || !self.rooms.is_empty() => data,
            _ => return Ok(()),
        };
        let mut emit = namespace.all();
        if !self.is_for_all {
            emit = self
                .rooms
                .into_iter()
                .fold(emit, |emit, room| emit.to(room));
        }
        if let Some(key) = self.latest {
            emit = emit.latest(key);
        }
        emit.emit_once(once, event, &data).await
    }
}

fn raw(data: &impl Serialize) -> Result<Box<RawValue>> {
    to_raw_value(data).map_err(|error| {
        let text = "an event's data can't be written as JSON";
        Error::invalid("payload_unwritable", text).with_source(error)
    })
}

/// Where a binding leads.
#[derive(Debug, Clone)]
pub(crate) struct Binding {
    pub(crate) namespace: ByteString,
    pub(crate) event: &'static str,
    /// What its rooms are called, where that is declared.
    pub(crate) template: Option<&'static str>,
}

/// Tells of an event in a namespace.
pub(crate) fn binding<T, F>(binding: Binding, tell: F) -> Reaction
where
    T: EventData,
    F: Fn(&Event<T>) -> Result<Tell> + Send + Sync + 'static,
{
    let tell = Arc::new(tell);
    let to = binding.clone();
    let mut reaction = reaction(None, move |cx: Cx, event: Event<T>| {
        let (tell, to) = (tell.clone(), to.clone());
        async move {
            let mut told = tell(&event)?;
            if told.data.is_none() {
                told.data = Some(raw(&event.data)?);
            }
            let namespace = cx.namespace(&to.namespace)?;
            let once = Once {
                id: id_of(&event.envelope, &to),
                is_past: cx.runtime().sockets.is_past(event.envelope.time),
            };
            told.send(&namespace, to.event, once).await
        }
    });
    reaction.rooms = Some(binding);
    reaction
}

/// The same for one event and one binding, in every process, whenever it comes.
fn id_of(event: &Envelope, to: &Binding) -> Offset {
    let mut hash = Sha256::new();
    let template = to.template.unwrap_or_default();
    for part in [&*event.id, &*to.namespace, to.event, template] {
        hash.update(part);
        hash.update([0]);
    }
    let hash: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    let millis = u64::try_from(event.time.as_millisecond()).unwrap_or_default();
    Offset(millis, u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

/// Tells rooms of events; nothing of that is in the store.
pub(crate) struct Rooms {
    group: ByteString,
    runtime: Arc<Runtime>,
    reactions: Vec<Reaction>,
    schemas: SchemaRegistry,
    /// Events that are older are told to nobody.
    age_max: Duration,
}

/// Younger ones are told even where nobody can come back.
const AGE_MIN: Duration = Duration::from_secs(60);

impl Rooms {
    pub(crate) fn new(
        group: ByteString,
        runtime: Arc<Runtime>,
        (reactions, recovers): (Vec<Reaction>, Duration),
    ) -> Result<Self> {
        Ok(Self {
            age_max: recovers.max(AGE_MIN),
            group,
            runtime,
            schemas: SchemaRegistry::of(reactions.iter().map(|reaction| &reaction.decl))?,
            reactions,
        })
    }

    async fn tell(&self, event: &Envelope) -> Result<()> {
        let age = self.runtime.env.now().duration_since(event.time);
        if age.unsigned_abs() > self.age_max && age.is_positive() {
            tracing::debug!(
                group = &*self.group,
                event = &*event.id,
                "an event is too old to be told"
            );
            return Ok(());
        }
        let all = self.reactions.iter();
        for reaction in all.filter(|one| one.decl.event_type == &*event.event_type) {
            let cx = Cx::of_event(self.runtime.clone(), &self.group, event, None);
            react((&self.runtime, &self.schemas), reaction, &cx, event).await?;
        }
        Ok(())
    }
}

impl Handler for Rooms {
    fn handle<'a>(&'a self, batch: &'a [Envelope], _attempt: u32) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move {
            let mut outcomes = Vec::with_capacity(batch.len());
            for event in batch {
                outcomes.push(match self.tell(event).await {
                    Ok(()) => Outcome::Done,
                    Err(error) => Outcome::Failed(error),
                });
            }
            outcomes
        })
    }
}

/// Whether the nodes' log is away: then events wait until it is back.
pub(crate) fn is_away(error: &Error) -> bool {
    use ErrorKind::{DeadlineExceeded, Overloaded, Unavailable};
    matches!(error.kind(), Unavailable | DeadlineExceeded | Overloaded)
}

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rooms")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}
