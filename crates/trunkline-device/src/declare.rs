//! What devices say and where, as a service declares it.

use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;
use trunkline_core::{Envelope, Error, Event, EventData, EventDecl, Result, SchemaRegistry};

use crate::Pattern;
use crate::refusal::RefusalHook;

/// The most topics of one gateway.
const TOPICS_MAX: usize = 64;

/// A topic on which devices report, and how a report says who sent it and which it is. A text is a topic whose only capture
/// is the device.
///
/// ```
/// use trunkline_device::DeviceTopic;
///
/// let sales = DeviceTopic::new("vending/{machine_id}/sales").id("/saleId").names_device("/machineId");
/// # let _ = sales;
/// ```
#[derive(Debug, Clone)]
pub struct DeviceTopic {
    text: String,
    device: Option<ByteString>,
    pub(crate) id: Option<String>,
    pub(crate) names_device: Option<String>,
}

impl DeviceTopic {
    /// A topic; it is checked when the gateway is.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self {
            text: pattern.into(),
            device: None,
            id: None,
            names_device: None,
        }
    }

    /// Which capture is the device, where there are several.
    #[must_use]
    pub fn device(mut self, capture: impl Into<ByteString>) -> Self {
        self.device = Some(capture.into());
        self
    }

    /// Where in the payload the device's own id of the report stands, as a JSON pointer to a text or a number: the same
    /// id of the same device has one effect, however often it comes. A report without one is refused.
    ///
    /// Without this the id is the MQTT 5 user property `id`, if the device sends one; a report that has none has its
    /// effect at least once.
    #[must_use]
    pub fn id(mut self, pointer: impl Into<String>) -> Self {
        self.id = Some(pointer.into());
        self
    }

    /// Where in the payload the device names itself, as a JSON pointer: a report that names another one is refused.
    #[must_use]
    pub fn names_device(mut self, pointer: impl Into<String>) -> Self {
        self.names_device = Some(pointer.into());
        self
    }
}

impl From<&str> for DeviceTopic {
    fn from(pattern: &str) -> Self {
        Self::new(pattern)
    }
}

/// A topic with the type of its reports.
#[derive(Clone)]
pub struct Report {
    pub(crate) topic: DeviceTopic,
    pub(crate) pattern: Pattern,
    /// Which of its captures is the device.
    pub(crate) place: usize,
    pub(crate) decl: EventDecl,
    pub(crate) check: fn(Envelope) -> Result<()>,
}

impl Report {
    /// Reports of type `T` on a topic.
    ///
    /// # Errors
    /// As [`Pattern::new`]; `InvalidInput` when it is not clear which capture is the device.
    pub fn of<T: EventData>(topic: impl Into<DeviceTopic>) -> Result<Self> {
        let topic = topic.into();
        let pattern = Pattern::new(&topic.text)?;
        let place = match &topic.device {
            Some(name) => pattern.captures().position(|capture| capture == name),
            None => (pattern.captures().count() == 1).then_some(0),
        };
        let place = place.ok_or_else(|| {
            let text = "expected one capture, or `.device(…)` to say which of them is the device";
            Error::invalid("device_topic_invalid", text).with("topic", &topic.text)
        })?;
        Ok(Self {
            topic,
            pattern,
            place,
            decl: EventDecl::of::<T>(),
            check: |envelope| Event::<T>::decode(envelope).map(drop),
        })
    }

    /// What is reported.
    pub fn decl(&self) -> &EventDecl {
        &self.decl
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Report({:?} on {:?})", self.decl, self.pattern)
    }
}

/// Where commands go, and where their answers come.
#[derive(Debug, Clone)]
pub struct CommandTopics {
    pub(crate) commands: Pattern,
    pub(crate) replies: Pattern,
}

/// Everything that a gateway listens to.
#[derive(Clone, Default)]
pub struct Declared {
    /// What devices report.
    pub reports: Vec<Report>,
    /// Where they say that they are online and offline.
    pub presence: Option<Pattern>,
    /// Where they are told what to do.
    pub commands: Option<CommandTopics>,
    /// Says which devices are known; all that the broker lets in, without it.
    pub known: Option<Known>,
    /// Is told of refusals.
    pub on_refusal: Option<RefusalHook>,
    /// Whether what a device sends is done on behalf of a user of the device's name.
    pub as_users: bool,
}

/// Says whether a device is known. It must not block.
pub type Known = Arc<dyn Fn(&str) -> bool + Send + Sync>;

impl CommandTopics {
    /// Topics with one capture each, the device: `vending/{machine_id}/commands` and `vending/{machine_id}/replies`.
    ///
    /// # Errors
    /// As [`Pattern::new`].
    pub fn new(commands: &str, replies: &str) -> Result<Self> {
        Ok(Self {
            commands: Pattern::new(commands)?,
            replies: Pattern::new(replies)?,
        })
    }
}

impl Declared {
    /// Checks that each message has one place.
    ///
    /// # Errors
    /// `InvalidInput` naming the topic.
    pub fn check(&self) -> Result<()> {
        let bad = |why: &'static str, pattern: &Pattern| {
            Err(Error::invalid("device_topic_invalid", why).with("topic", pattern.as_str()))
        };
        let commands = self.commands.iter();
        let single = commands.flat_map(|topics| [&topics.commands, &topics.replies]);
        let single: Vec<_> = single.chain(&self.presence).collect();
        if let Some(pattern) = single
            .iter()
            .find(|pattern| pattern.captures().count() != 1)
        {
            return bad("expected one capture, the device", pattern);
        }
        let all = self.reports.iter().map(|report| &report.pattern);
        let all: Vec<_> = all.chain(single).collect();
        let mut types: Vec<_> = self
            .reports
            .iter()
            .map(|report| report.decl.event_type)
            .collect();
        types.sort_unstable();
        let twice = types.windows(2).find(|pair| pair.first() == pair.last());
        if let Some(name) = twice.and_then(|pair| pair.first()) {
            let why = "two topics of a gateway carry the same type of report";
            return Err(Error::invalid("device_topic_invalid", why).with("type", name));
        }
        if all.len() > TOPICS_MAX {
            let why = "expected at most 64 topics";
            return Err(Error::invalid("device_topic_invalid", why));
        }
        for (at, one) in all.iter().enumerate() {
            if let Some(other) = all.iter().skip(at + 1).find(|other| one.overlaps(other)) {
                return bad("two topics of a gateway match the same messages", other);
            }
        }
        Ok(())
    }

    pub(crate) fn schemas(&self) -> Result<SchemaRegistry> {
        SchemaRegistry::of(self.reports.iter().map(|report| &report.decl))
    }

    /// The filters to subscribe to.
    pub(crate) fn filters(&self) -> Vec<String> {
        let reports = self.reports.iter().map(|report| &report.pattern);
        let replies = self.commands.iter().map(|topics| &topics.replies);
        let all = reports.chain(&self.presence).chain(replies);
        all.map(Pattern::filter).collect()
    }
}

impl fmt::Debug for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Declared")
            .field("reports", &self.reports)
            .field("presence", &self.presence)
            .field("commands", &self.commands)
            .finish_non_exhaustive()
    }
}
