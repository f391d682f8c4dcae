//! An event as a broker's message: in which form it stands on the wire.
//!
//! ```
//! use trunkline_core::{Arrival, Form, Message, Timestamp};
//!
//! let form: Form = "binary".parse()?;
//! let message = Message {
//!     attributes: [("specversion", "1.0"), ("id", "1"), ("source", "/shop"), ("type", "sold")]
//!         .map(|(name, value)| (name.into(), value.into()))
//!         .to_vec(),
//!     content_type: Some("application/json".into()),
//!     body: "{}".into(),
//!     ..Message::default()
//! };
//! let event = form.read(message, &Arrival::new("sales", Timestamp::UNIX_EPOCH))?;
//! assert_eq!(event.event_type, "sold");
//! assert_eq!(form.write(&event)?.body, "{}");
//! # Ok::<(), trunkline_core::Error>(())
//! ```

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use bytestring::ByteString;

use crate::cloudevents::{STRUCTURED, attributes, read_texts};
use crate::dialect::{Shared, Text};
use crate::{Arrival, Dialect, Envelope, Error, Result};

/// In which form events stand on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Form {
    /// CloudEvents' binary mode: attributes in headers, the data as the body.
    #[default]
    Binary,
    /// The whole event as the body, in this dialect; CloudEvents' structured mode is one of them.
    Structured(Dialect),
}

/// A broker's message, whatever the broker calls its parts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// CloudEvents' attributes without the protocol's prefix; none in a structured form.
    pub attributes: Vec<(ByteString, ByteString)>,
    /// W3C trace context for those who read nothing of CloudEvents: a plain header `traceparent`.
    pub traceparent: Option<ByteString>,
    /// The body's content type.
    pub content_type: Option<ByteString>,
    /// The body.
    pub body: Bytes,
}

/// A broker's message whose texts stand in one buffer, besides its attributes; see [`Form::read_texts`].
#[derive(Debug, Clone)]
pub struct MessageTexts<'a> {
    /// The buffer; a text that stands elsewhere is copied.
    pub whole: &'a ByteString,
    /// W3C trace context for those who read nothing of CloudEvents: a plain header `traceparent`.
    pub traceparent: Option<&'a str>,
    /// The body's content type.
    pub content_type: Option<&'a str>,
    /// The body.
    pub body: Bytes,
}

impl Form {
    /// Writes an event.
    ///
    /// # Errors
    /// `Unsupported`, as [`Dialect::write`] says.
    pub fn write(self, event: &Envelope) -> Result<Message> {
        let traceparent = event.trace.map(|trace| trace.to_string().into());
        match self {
            Self::Binary => Ok(Message {
                attributes: attributes(event),
                traceparent,
                content_type: Some(event.content_type.clone()),
                body: event.data.clone(),
            }),
            Self::Structured(dialect) => Ok(Message {
                attributes: Vec::new(),
                traceparent,
                content_type: Some(ByteString::from_static(match dialect {
                    Dialect::CloudEvents => STRUCTURED,
                    _ => "application/json",
                })),
                body: dialect.write(event)?,
            }),
        }
    }

    /// Reads a message in any form that it tells of itself: attributes say binary mode, the content type says
    /// structured mode. A body that says nothing is read in this form's dialect, CloudEvents' where there is none.
    /// Where the event itself has no trace, the message's is its.
    ///
    /// # Errors
    /// `InvalidInput`, code `event_form_invalid`: the facts `field`, `expected` and `found` say what is wrong.
    pub fn read(self, message: Message, arrival: &Arrival) -> Result<Envelope> {
        let mut names = message.attributes.iter();
        let is_binary = names.any(|(name, _)| name == SPEC_VERSION);
        let head = Head {
            is_binary,
            traceparent: message.traceparent,
            content_type: message.content_type,
            body: message.body,
        };
        self.read_head(message.attributes.into_iter(), head, arrival)
    }

    /// Reads a message as [`Form::read`] does, and copies no text: those that the event keeps share
    /// [`MessageTexts::whole`], so whoever keeps one of them keeps all of it. `attributes` are names without the
    /// protocol's prefix, and texts.
    ///
    /// # Errors
    /// As [`Form::read`] has them.
    pub fn read_texts<'a>(
        self,
        attributes: impl Iterator<Item = (&'a str, &'a str)> + Clone,
        message: MessageTexts<'a>,
        arrival: &Arrival,
    ) -> Result<Envelope> {
        let whole = message.whole;
        let shared = |text| Shared { whole, text };
        let head = Head {
            is_binary: attributes.clone().any(|(name, _)| name == SPEC_VERSION),
            traceparent: message.traceparent.map(shared),
            content_type: message.content_type.map(shared),
            body: message.body,
        };
        let attributes = attributes.map(|(name, text)| (name, shared(text)));
        self.read_head(attributes, head, arrival)
    }

    #[inline]
    fn read_head<N: AsRef<str>, T: Text>(
        self,
        attributes: impl Iterator<Item = (N, T)>,
        head: Head<T>,
        arrival: &Arrival,
    ) -> Result<Envelope> {
        let says_structured = head.content_type.as_ref().is_some_and(|text| {
            let media = text.as_ref().split(';').next().unwrap_or_default().trim();
            media.eq_ignore_ascii_case(STRUCTURED)
        });
        let mut event = if says_structured {
            Dialect::CloudEvents.read(head.body, arrival)?
        } else if head.is_binary {
            read_texts(attributes, head.content_type, head.body, arrival)?
        } else {
            let dialect = match self {
                Self::Binary => Dialect::CloudEvents,
                Self::Structured(dialect) => dialect,
            };
            dialect.read(head.body, arrival)?
        };
        if event.trace.is_none() {
            // A header that is no trace context is somebody else's.
            let text = head.traceparent.as_ref();
            event.trace = text.and_then(|text| text.as_ref().parse().ok());
        }
        Ok(event)
    }
}

/// What a message is read from besides its attributes.
struct Head<T> {
    is_binary: bool,
    traceparent: Option<T>,
    content_type: Option<T>,
    body: Bytes,
}

/// The attribute that every event in binary mode has.
const SPEC_VERSION: &str = "specversion";

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Binary => f.write_str("binary"),
            Self::Structured(dialect) => dialect.fmt(f),
        }
    }
}

impl FromStr for Form {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "binary" {
            return Ok(Self::Binary);
        }
        text.parse().map(Self::Structured).map_err(|_| {
            let expected = "expected binary, cloudevents, tablium, storefront or retail";
            Error::invalid("form_unknown", expected).with("found", text)
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::testing::envelope;

    const FORMS: [Form; 5] = [
        Form::Binary,
        Form::Structured(Dialect::CloudEvents),
        Form::Structured(Dialect::Tablium),
        Form::Structured(Dialect::Storefront),
        Form::Structured(Dialect::Retail),
    ];

    fn arrival() -> Arrival {
        Arrival::new("orders", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn an_event_comes_back_in_every_form_under_its_name() {
        for form in FORMS {
            let event = envelope();
            let arrival = Arrival::new(event.topic.clone(), Timestamp::UNIX_EPOCH);
            let form: Form = form.to_string().parse().unwrap();
            let back = form.read(form.write(&event).unwrap(), &arrival).unwrap();
            assert_eq!(back, event, "{form}");
        }
        let error = "xml".parse::<Form>().unwrap_err().to_string();
        assert!(error.contains("expected binary"), "{error}");
    }

    #[test]
    fn a_message_is_read_in_the_form_that_it_has() {
        let event = envelope();
        let arrival = Arrival::new(event.topic.clone(), Timestamp::UNIX_EPOCH);
        let written = [FORMS[0], FORMS[1]].map(|form| form.write(&event).unwrap());
        for form in FORMS {
            for message in &written {
                let back = form.read(message.clone(), &arrival).unwrap();
                assert_eq!(back.id, event.id, "{form}");
            }
        }
    }

    #[test]
    fn texts_of_a_buffer_are_shared_and_others_copied() {
        let event = envelope();
        let arrival = Arrival::new(event.topic.clone(), Timestamp::UNIX_EPOCH);
        let message = Form::Binary.write(&event).unwrap();
        let mut whole = String::new();
        for (_, text) in &message.attributes {
            whole.push_str(text);
        }
        let whole = ByteString::from(whole);
        let mut rest = &*whole;
        let mut attributes = Vec::new();
        for (name, text) in &message.attributes {
            let (text, after) = rest.split_at(text.len());
            // The source stands elsewhere.
            let text = if name == "source" {
                &*event.source
            } else {
                text
            };
            attributes.push((&**name, text));
            rest = after;
        }
        let texts = MessageTexts {
            whole: &whole,
            traceparent: None,
            content_type: Some(&event.content_type),
            body: event.data.clone(),
        };
        let attributes = attributes.into_iter();
        let read = Form::Binary
            .read_texts(attributes, texts, &arrival)
            .unwrap();
        assert_eq!(read, event);
        let range = whole.as_bytes().as_ptr_range();
        assert!(range.contains(&read.id.as_bytes().as_ptr()));
        assert!(!range.contains(&read.source.as_bytes().as_ptr()));
    }

    #[test]
    fn a_plain_traceparent_is_the_trace_of_an_event_without_one() {
        let mut event = envelope();
        event.trace = None;
        let mut message = Form::Binary.write(&event).unwrap();
        assert_eq!(message.traceparent, None);
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        message.traceparent = Some(text.into());
        let read = Form::Binary.read(message.clone(), &arrival()).unwrap();
        assert_eq!(read.trace.unwrap().to_string(), text);
        message.traceparent = Some("nonsense".into());
        let read = Form::Binary.read(message, &arrival()).unwrap();
        assert_eq!(read.trace, None);
    }

    #[test]
    fn what_is_no_event_is_told_with_its_field() {
        for body in ["", "hello", "{}", "[1]", "\u{fffd}"] {
            for form in FORMS {
                let message = Message {
                    body: body.into(),
                    ..Message::default()
                };
                let error = form.read(message, &arrival()).unwrap_err();
                assert_eq!(error.code(), "event_form_invalid", "{form} {body:?}");
            }
        }
        let message = Message {
            body: Bytes::from_static(&[0xff, 0xfe, 0]),
            ..Message::default()
        };
        assert!(Form::Binary.read(message, &arrival()).is_err());
    }
}
