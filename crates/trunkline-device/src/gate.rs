//! What comes from devices, looked at before anybody acts on it.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use bytestring::ByteString;
use serde_json::Value;
use tokio::time::Instant;
use trunkline_core::{
    Context, Env, Envelope, EventData, Priority, Result, SchemaRegistry, report as chain,
};

use crate::command::Reply;
use crate::declare::{Declared, Report};
use crate::limit::{Asked, Limiter};
use crate::recent::Recent;
use crate::refusal::{Refusal, Refused};
use crate::{DeviceConfig, pattern};

/// The topic of the bus's consumer that devices' reports come by; nothing is published on it.
pub(crate) const TOPIC: &str = "trunkline.devices";
/// The longest id that a device may give.
const ID_BYTES_MAX: usize = 128;
/// So many names that nobody knows are told apart when they are told of.
const STRANGERS_MAX: usize = 1_000;

/// A message as the broker handed it over.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrival {
    pub(crate) topic: Bytes,
    pub(crate) payload: Bytes,
    /// The broker has handed it over before.
    pub(crate) again: bool,
    /// It is what the broker remembers, and not news.
    pub(crate) retained: bool,
    /// Its number in this session; 0 when it needs no acknowledgement.
    pub(crate) packet: u16,
    /// The user property `id`.
    pub(crate) id: Option<String>,
    pub(crate) correlation: Option<Bytes>,
}

/// What is taken.
#[derive(Debug)]
pub(crate) enum Taken {
    /// A report or an answer, for the consumer.
    Event(Box<Envelope>),
    /// A device says whether it is there.
    Presence { online: bool, retained: bool },
}

/// Why not, and what to say of it.
#[derive(Debug)]
pub(crate) struct No(Refusal, String);

fn no<T>(reason: Refusal, detail: impl Into<String>) -> Result<T, No> {
    Err(No(reason, detail.into()))
}

/// Decides what is taken.
pub(crate) struct Gate {
    declared: Declared,
    schemas: SchemaRegistry,
    limiter: Limiter,
    /// Who is told of names that nobody knows: they must not take the place of devices.
    strangers: Limiter,
    recent: Recent,
    hasher: RandomState,
    env: Env,
}

impl Gate {
    pub(crate) fn new(declared: Declared, config: &DeviceConfig, env: Env) -> Result<Self> {
        declared.check()?;
        Ok(Self {
            schemas: declared.schemas()?,
            limiter: Limiter::new(config.devices_max, config.rate_per_second, config.burst_max),
            strangers: Limiter::new(STRANGERS_MAX, 1, 1),
            recent: Recent::new(config.in_flight_max.into()),
            hasher: RandomState::new(),
            declared,
            env,
        })
    }

    /// Takes a message or refuses it, and tells who is to be told. With what is taken comes the device.
    pub(crate) fn admit(&mut self, arrival: &Arrival) -> Result<(ByteString, Taken), Refusal> {
        let mut device = None;
        match self.look_at(arrival, &mut device) {
            Ok(taken) => Ok((device.unwrap_or_default(), taken)),
            Err(No(reason, detail)) => {
                self.tell(device, &arrival.topic, reason, detail);
                Err(reason)
            }
        }
    }

    /// Counts and tells a refusal.
    pub(crate) fn tell(
        &mut self,
        device: Option<ByteString>,
        topic: &[u8],
        reason: Refusal,
        detail: String,
    ) {
        let name = device.clone().unwrap_or_default();
        let teller = match reason {
            Refusal::Unknown | Refusal::Topic => &mut self.strangers,
            _ => &mut self.limiter,
        };
        if !teller.tells(&name, Instant::now()) {
            return;
        }
        let end = topic.len().min(pattern::TOPIC_BYTES_MAX);
        let topic = String::from_utf8_lossy(topic.get(..end).unwrap_or_default()).into_owned();
        tracing::warn!(
            device = &*name, topic = ?topic, reason = reason.as_str(), detail,
            "a device's message is refused; more of this device's are only counted for a minute"
        );
        let refused = Refused {
            device,
            topic,
            reason,
            detail,
        };
        if let Some(hook) = &self.declared.on_refusal {
            hook(&refused);
        }
    }

    fn look_at(&mut self, arrival: &Arrival, sender: &mut Option<ByteString>) -> Result<Taken, No> {
        let Ok(topic) = std::str::from_utf8(&arrival.topic) else {
            return no(Refusal::Topic, "the topic is not UTF-8");
        };
        let found = self.declared.place(topic);
        let Some((place, captures)) = found else {
            return no(
                Refusal::Topic,
                "no declared topic matches, or a name in it is no name",
            );
        };
        let at = match place {
            Place::Report(at) => self
                .declared
                .reports
                .get(at)
                .map_or(0, |report| report.place),
            Place::Presence | Place::Reply => 0,
        };
        let Some(device) = captures.get(at).map(|(_, name)| ByteString::from(*name)) else {
            return no(Refusal::Topic, "the topic names no device");
        };
        *sender = Some(device.clone());
        if self
            .declared
            .known
            .as_ref()
            .is_some_and(|known| !known(&device))
        {
            return no(Refusal::Unknown, "the device is not known here");
        }
        // What the broker remembers is not of the device's making, and comes all at once.
        if !arrival.retained {
            match self.limiter.ask(&device, Instant::now()) {
                Asked::Free => {}
                Asked::TooFast => return no(Refusal::TooFast, "it sends more than its rate"),
                Asked::TooMany => return no(Refusal::TooFast, "there are too many devices"),
            }
        }
        match place {
            Place::Presence => presence(arrival),
            Place::Reply => self.reply(arrival, device),
            Place::Report(at) => self.report(arrival, at, device, &captures),
        }
    }

    fn report(
        &mut self,
        arrival: &Arrival,
        at: usize,
        device: ByteString,
        captures: &[(ByteString, &str)],
    ) -> Result<Taken, No> {
        let Some(report) = self.declared.reports.get(at).cloned() else {
            return no(Refusal::Topic, "no such topic");
        };
        let value: Value = match serde_json::from_slice(&arrival.payload) {
            Ok(value) => value,
            Err(error) => return no(Refusal::Payload, format!("no JSON: {error}")),
        };
        if let Some(pointer) = &report.topic.names_device
            && value.pointer(pointer).and_then(Value::as_str) != Some(&*device)
        {
            return no(
                Refusal::OtherDevice,
                "the payload names another device than the topic",
            );
        }
        let id = self.id(arrival, &report, &device, &value)?;
        let mut envelope = self.envelope(id, device, arrival.payload.clone());
        envelope.event_type = ByteString::from_static(report.decl.event_type);
        envelope.version = report.decl.version;
        envelope.kind = report.decl.kind;
        let texts = captures.iter();
        let texts = texts.map(|(name, is)| (name.clone(), Value::from(*is).to_string().into()));
        envelope.extensions = texts.collect();
        if let Err(error) = self.schemas.validate_event(&envelope) {
            return no(Refusal::Payload, chain(&error).to_string());
        }
        match (report.check)(envelope.clone()) {
            Ok(()) => Ok(Taken::Event(Box::new(envelope))),
            // The error behind it would quote what stands there.
            Err(error) => {
                let mut facts = error.context();
                let field = facts.find(|(name, _)| *name == "field");
                let field = field.map_or("somewhere", |(_, field)| field);
                no(Refusal::Payload, format!("it does not decode: {field}"))
            }
        }
    }

    /// The id of a report, unique to its device and type: no device can use up another's.
    fn id(
        &mut self,
        arrival: &Arrival,
        report: &Report,
        device: &ByteString,
        value: &Value,
    ) -> Result<ByteString, No> {
        let own = match &report.topic.id {
            None => arrival.id.clone(),
            Some(pointer) => match value.pointer(pointer) {
                Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
                Some(Value::Number(number)) => Some(number.to_string()),
                _ => return no(Refusal::Id, "the payload has no id where one is declared"),
            },
        };
        if own.as_ref().is_some_and(|own| own.len() > ID_BYTES_MAX) {
            return no(Refusal::Id, "the id has more than 128 bytes");
        }
        Ok(match own {
            Some(own) => format!("{device}/{}/{own}", report.decl.event_type).into(),
            None => self.made_id(arrival),
        })
    }

    /// The id of a report that has none: the one that it had when the broker handed it over before, or a new one.
    fn made_id(&mut self, arrival: &Arrival) -> ByteString {
        let hash = self.hasher.hash_one((&arrival.topic, &arrival.payload));
        let known = self.recent.get(arrival.packet, hash);
        if let Some(id) = known.filter(|_| arrival.again) {
            return id;
        }
        let id = ByteString::from(self.env.id().to_string());
        self.recent.note(arrival.packet, hash, id.clone());
        id
    }

    fn reply(&self, arrival: &Arrival, device: ByteString) -> Result<Taken, No> {
        let reply = match Reply::read(device.clone(), arrival) {
            Ok(reply) => reply,
            Err(why) => return no(Refusal::Payload, why),
        };
        let id = format!("{device}/{}/{}", Reply::TYPE, reply.command_id).into();
        let data = match serde_json::to_vec(&reply) {
            Ok(data) => data,
            Err(error) => return no(Refusal::Payload, error.to_string()),
        };
        let mut envelope = self.envelope(id, device, data.into());
        envelope.event_type = ByteString::from_static(Reply::TYPE);
        envelope.version = Reply::VERSION;
        Ok(Taken::Event(Box::new(envelope)))
    }

    fn envelope(&self, id: ByteString, device: ByteString, data: Bytes) -> Envelope {
        let context = Context::root(&self.env);
        let user_id = self.declared.as_users.then(|| device.clone());
        Envelope {
            id,
            event_type: ByteString::default(),
            version: Reply::VERSION,
            source: ByteString::from_static("device"),
            time: self.env.now(),
            topic: ByteString::from_static(TOPIC),
            key: Some(device),
            correlation_id: context.correlation_id,
            causation_id: None,
            trace: Some(context.trace),
            user_id,
            kind: Reply::KIND,
            priority: Priority::Medium,
            content_type: ByteString::from_static("application/json"),
            extensions: Vec::new(),
            data,
        }
    }
}

/// `online` or `offline`, as a text or as `{"status": …}`.
fn presence(arrival: &Arrival) -> Result<Taken, No> {
    let is = |word: &str| match word {
        "online" => Some(true),
        "offline" => Some(false),
        _ => None,
    };
    let text = std::str::from_utf8(&arrival.payload).unwrap_or_default();
    let online = is(text.trim()).or_else(|| {
        let value: Value = serde_json::from_str(text).ok()?;
        is(value.get("status")?.as_str()?)
    });
    match online {
        Some(online) => Ok(Taken::Presence {
            online,
            retained: arrival.retained,
        }),
        None => no(
            Refusal::Payload,
            "expected `online`, `offline` or {\"status\": …} with one of them",
        ),
    }
}

/// What a topic is for.
#[derive(Debug, Clone, Copy)]
enum Place {
    Report(usize),
    Presence,
    Reply,
}

impl Declared {
    fn place<'t>(&self, topic: &'t str) -> Option<(Place, Vec<(ByteString, &'t str)>)> {
        let reports = self.reports.iter().enumerate();
        let reports = reports.map(|(at, report)| (Place::Report(at), &report.pattern));
        let presence = self
            .presence
            .iter()
            .map(|pattern| (Place::Presence, pattern));
        let replies = self.commands.iter();
        let replies = replies.map(|topics| (Place::Reply, &topics.replies));
        let mut all = reports.chain(presence).chain(replies);
        all.find_map(|(place, pattern)| Some((place, pattern.matches(topic)?)))
    }
}

#[cfg(test)]
mod tests;
