//! What is known of an event type without knowing its Rust type.

use std::fmt;

use serde_json::Value;

use crate::{EventData, Kind, Priority, Upcast, Version};

/// The declaration of one version of one event type, as a service lists it.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct EventDecl {
    /// The event's type, such as `order.created`.
    pub event_type: &'static str,
    /// The version.
    pub version: Version,
    /// The topic that it is published to.
    pub topic: &'static str,
    /// What it is for.
    pub kind: Kind,
    /// The lane it takes.
    pub priority: Priority,
    /// Whether its data is encrypted on the bus.
    pub encrypted: bool,
    /// The steps by which older versions are read, oldest first.
    pub upcasts: &'static [Upcast],
    schema: fn() -> Value,
}

impl EventDecl {
    /// The declaration that a type's derive made.
    pub fn of<T: EventData>() -> Self {
        Self {
            event_type: T::TYPE,
            version: T::VERSION,
            topic: T::TOPIC,
            kind: T::KIND,
            priority: T::PRIORITY,
            encrypted: T::ENCRYPTED,
            upcasts: T::upcasts(),
            schema: schema_of::<T>,
        }
    }

    /// The JSON Schema (draft 2020-12) of the data, as a reader of this version takes it.
    pub fn schema(&self) -> Value {
        (self.schema)()
    }
}

fn schema_of<T: EventData>() -> Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12();
    settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

impl fmt::Debug for EventDecl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "EventDecl({} {} on {})",
            self.event_type, self.version, self.topic
        )
    }
}
