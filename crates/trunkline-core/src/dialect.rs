//! The forms in which events are written as JSON: CloudEvents and the platforms' own.
//!
//! ```
//! use trunkline_core::{Arrival, Dialect, Timestamp};
//!
//! let text = r#"{"eventId": "evt_123", "eventType": "OrderCreated", "eventVersion": "1.0",
//!     "source": "order-service", "timestamp": 1234567890, "correlationId": "corr_123",
//!     "shard": 7, "data": {"orderId": "order_123", "totalAmount": 100.00}}"#;
//! let arrival = Arrival::new("order-events", Timestamp::UNIX_EPOCH);
//! let event = Dialect::Retail.read(text.into(), &arrival)?;
//! assert_eq!(event.time.to_string(), "2009-02-13T23:31:30Z");
//!
//! let again = String::from_utf8_lossy(&Dialect::Retail.write(&event)?).into_owned();
//! assert!(again.contains("\"shard\":7,\"data\":{\"orderId\": \"order_123\", \"totalAmount\": 100.00}"));
//! # Ok::<(), trunkline_core::Error>(())
//! ```

mod draft;
mod form;
mod json;
mod read;
mod seconds;
mod text;
mod time;
mod value;
mod write;

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use bytestring::ByteString;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) use self::draft::{Draft, is_attribute_name};
pub(crate) use self::form::{CLOUD_EVENTS, Field, Rule, Slot};
pub(crate) use self::text::{Shared, Text};
pub(crate) use self::value::{Value, value as slot_value};
pub(crate) use self::write::attribute_text;
use crate::{Envelope, Error, Result};

/// A form in which an event is written as JSON.
///
/// # Guarantees
/// `write(read(text))` is the same JSON: the same members in the same order, every number and text
/// as it was written, whatever fields are unknown; only the space between the members of the event
/// and of its metadata is dropped. A field that was changed on the envelope in between is written
/// anew, and the others stay as they were.
///
/// `read(write(event))` is the same event, if its data is the text of a JSON value without space
/// around it, or is not JSON by its content type. What a platform's form has no field for stands in
/// its `metadata`.
///
/// # Shape
/// What the canonical form can't hold is kept in an extension attribute per dialect (such as
/// `storefrontform`): the text as it came, without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// CloudEvents 1.0, structured mode, JSON.
    #[default]
    CloudEvents,
    /// `id`, `type`, `version`, `timestamp`, `producer`, `data`, `metadata`.
    Tablium,
    /// `event_id`, `event_type`, `event_version`, `timestamp`, `source_service`, `correlation_id`,
    /// `data`, `metadata`.
    Storefront,
    /// `eventId`, `eventType`, `eventVersion`, `source`, `timestamp` in Unix seconds,
    /// `correlationId`, `data`.
    Retail,
}

/// What a transport knows of an event besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The topic that it came from.
    pub topic: ByteString,
    /// When it came; the time of an event that tells none.
    pub at: Timestamp,
}

impl Arrival {
    /// An event that comes from `topic` at this time.
    pub fn new(topic: impl Into<ByteString>, at: Timestamp) -> Self {
        Self {
            topic: topic.into(),
            at,
        }
    }
}

impl Dialect {
    /// All dialects.
    pub const ALL: [Self; 4] = [
        Self::CloudEvents,
        Self::Tablium,
        Self::Storefront,
        Self::Retail,
    ];

    /// Reads an event. Texts and data share `bytes` where they stand there as they are.
    ///
    /// # Errors
    /// `InvalidInput`, code `event_form_invalid`: the facts `field`, `expected` and `found` say what
    /// is wrong.
    pub fn read(self, bytes: Bytes, arrival: &Arrival) -> Result<Envelope> {
        read::read(self.form(), &bytes, arrival)
    }

    /// Writes an event.
    ///
    /// # Errors
    /// `Unsupported` when the event came with a `metadata` of its own that is no object, and now has
    /// something that must be written there.
    pub fn write(self, envelope: &Envelope) -> Result<Bytes> {
        write::write(self.form(), envelope).map(Bytes::from)
    }

    /// The name, as configuration gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CloudEvents => "cloudevents",
            Self::Tablium => "tablium",
            Self::Storefront => "storefront",
            Self::Retail => "retail",
        }
    }

    fn form(self) -> &'static form::Form {
        match self {
            Self::CloudEvents => &form::CLOUD_EVENTS,
            Self::Tablium => &form::TABLIUM,
            Self::Storefront => &form::STOREFRONT,
            Self::Retail => &form::RETAIL,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dialect {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|dialect| dialect.name() == text)
            .ok_or_else(|| {
                Error::invalid(
                    "dialect_unknown",
                    "expected cloudevents, tablium, storefront or retail",
                )
                .with("found", text)
            })
    }
}

#[cfg(test)]
mod tests;
