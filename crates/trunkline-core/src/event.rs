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
    // H-core: upcasting
    serde_json::from_slice(&envelope.data).map_err(|error| {
        Error::invalid("event_data_invalid", "the event's data does not decode")
            .with("type", T::TYPE)
            .with_source(error)
    })
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
            Error::invalid("event_data_invalid", "the event's data can't be written as JSON")
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
