//! Typed events.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Context, Env, Envelope, Error, Kind, Priority, Result, Version};

/// A type that is the data of an event; implemented by `#[derive(Event)]`.
pub trait EventData: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// The event's type, such as `order.created`.
    const TYPE: &'static str;
    /// The version that this Rust type is.
    const VERSION: Version;
    /// The topic that it is published to.
    const TOPIC: &'static str;
    /// What it is for.
    const KIND: Kind;
    /// The lane it takes.
    const PRIORITY: Priority;
    /// Whether its data is encrypted on the bus.
    const ENCRYPTED: bool;

    /// The key within which events of its topic stay in order.
    fn key(&self) -> Option<Cow<'_, str>>;

    /// The older versions that can still be read, oldest first, each with the step to the next.
    fn upcasts() -> &'static [Upcast] {
        &[]
    }
}

/// One step from an older version of an event's data to the next.
#[derive(Debug, Clone, Copy)]
pub struct Upcast {
    /// The version that the step reads.
    pub from: Version,
    /// The version that it makes.
    pub to: Version,
    /// Turns the older JSON into the newer.
    pub step: fn(serde_json::Value) -> Result<serde_json::Value>,
}

/// An event as a handler sees it: its data decoded, the rest at hand.
#[derive(Debug, Clone)]
pub struct Event<T> {
    /// The payload.
    pub data: T,
    /// Everything around it, with the payload's bytes as they came.
    pub envelope: Envelope,
}

impl<T: EventData> Event<T> {
    /// Decodes an envelope, upcasting data of an older version.
    ///
    /// # Errors
    /// `InvalidInput`: the type differs, the version is newer than `T` in its major part or has no
    /// upcast, or the data does not decode; the message says where.
    pub fn decode(envelope: Envelope) -> Result<Self> {
        let data = decode_data(&envelope)?;
        Ok(Self { data, envelope })
    }
}

fn decode_data<T: EventData>(envelope: &Envelope) -> Result<T> {
    if envelope.event_type != T::TYPE {
        return Err(
            Error::invalid("event_type_mismatch", "the event is of another type")
                .with("expected", T::TYPE)
                .with("found", &envelope.event_type),
        );
    }
    if envelope.is_sealed() {
        return Err(Error::invalid(
            "event_sealed",
            "the event's data is encrypted and was not opened",
        )
        .with("type", T::TYPE));
    }
    if !envelope.is_json() {
        return Err(
            Error::invalid("event_content_type", "the event's data is not JSON")
                .with("type", T::TYPE)
                .with("content_type", &envelope.content_type),
        );
    }
    let given = envelope.version;
    if given.major > T::VERSION.major {
        return Err(Error::invalid(
            "event_version_newer",
            "the event is of a newer major version than the one asked for",
        )
        .with("type", T::TYPE)
        .with("newest_readable", T::VERSION)
        .with("found", given));
    }
    // The common case, and a newer minor version, whose additions are passed over.
    if given >= T::VERSION || next_step(T::upcasts(), given).is_none() {
        if given.major < T::VERSION.major {
            return Err(no_way::<T>(given));
        }
        return serde_json::from_slice(&envelope.data).map_err(|_| explain::<T>(&envelope.data));
    }
    upcast(envelope)
}

/// The step to take from a version: the first that reads it, or reads a later minor version, which
/// by the rule of minor versions can read what the earlier wrote.
fn next_step(steps: &'static [Upcast], at: Version) -> Option<&'static Upcast> {
    steps
        .iter()
        .find(|step| step.from.major == at.major && step.from >= at)
}

fn upcast<T: EventData>(envelope: &Envelope) -> Result<T> {
    let mut value: serde_json::Value = serde_json::from_slice(&envelope.data)
        .map_err(|error| invalid::<T>().with_source(error))?;
    let mut at = envelope.version;
    while let Some(step) = next_step(T::upcasts(), at) {
        value = (step.step)(value).map_err(|error| {
            Error::invalid(
                "event_upcast_failed",
                "an older event can't be read as a newer version",
            )
            .with("type", T::TYPE)
            .with("from", step.from)
            .with("to", step.to)
            .with_source(error)
        })?;
        // The derive macro refuses a step that does not rise; one written by hand must not hang us.
        if step.to <= at {
            return Err(no_way::<T>(at));
        }
        at = step.to;
    }
    if at.major != T::VERSION.major {
        return Err(no_way::<T>(at));
    }
    serde_path_to_error::deserialize(value).map_err(|error| located::<T>(&error))
}

fn no_way<T: EventData>(from: Version) -> Error {
    Error::invalid(
        "event_version_unsupported",
        "no upcast leads from the event's version",
    )
    .with("type", T::TYPE)
    .with("asked_for", T::VERSION)
    .with("found", from)
}

fn invalid<T: EventData>() -> Error {
    Error::invalid("event_data_invalid", "the event's data does not decode").with("type", T::TYPE)
}

fn located<T: EventData>(error: &serde_path_to_error::Error<serde_json::Error>) -> Error {
    invalid::<T>()
        .with("field", error.path())
        .with("reason", error.inner())
}

/// Decodes once more, slower, to say at which field it fails.
#[cold]
fn explain<T: EventData>(data: &[u8]) -> Error {
    let mut deserializer = serde_json::Deserializer::from_slice(data);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(error) => located::<T>(&error),
        Ok(_) => invalid::<T>().with("reason", "something follows the JSON value"),
    }
}

impl Envelope {
    /// Makes the envelope of a new event that `source` publishes while working in `context`.
    ///
    /// # Errors
    /// `InvalidInput` when the data can't be written as JSON.
    pub fn of<T: EventData>(
        data: &T,
        source: impl Into<bytestring::ByteString>,
        context: &Context,
        env: &Env,
    ) -> Result<Self> {
        let bytes = serde_json::to_vec(data).map_err(|error| {
            Error::invalid(
                "event_data_invalid",
                "the event's data can't be written as JSON",
            )
            .with("type", T::TYPE)
            .with_source(error)
        })?;
        Ok(Self {
            id: env.id().to_string().into(),
            event_type: bytestring::ByteString::from_static(T::TYPE),
            version: T::VERSION,
            source: source.into(),
            time: env.now(),
            topic: bytestring::ByteString::from_static(T::TOPIC),
            key: data.key().map(|key| key.into_owned().into()),
            correlation_id: context.correlation_id.clone(),
            causation_id: context.causation_id.clone(),
            trace: Some(context.trace),
            user_id: context.user_id.clone(),
            kind: T::KIND,
            priority: T::PRIORITY,
            content_type: bytestring::ByteString::from_static("application/json"),
            extensions: Vec::new(),
            data: bytes.into(),
        })
    }
}

#[cfg(test)]
mod tests;
