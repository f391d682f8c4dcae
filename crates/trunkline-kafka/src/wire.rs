//! Events as Kafka's records.
//!
//! # Source
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>: in binary
//! mode an attribute is a header `ce_` and its name, `datacontenttype` is the header `content-type`, the key is
//! the record's key.

mod raw;

use bytes::Bytes;
use rdkafka::message::{Header, OwnedHeaders};
use trunkline_core::{Envelope, Form, Result, cloudevents};

pub(crate) use self::raw::{Raw, Scratch};

const PREFIX: &str = "ce_";
const CONTENT_TYPE: &str = "content-type";
const TRACE: &str = "traceparent";

/// What a record's frame takes at most besides key, value and headers, in a batch of its own.
const FRAME_BYTES: usize = 61 + 32;
/// What a header's lengths take at most.
const HEADER_BYTES: usize = 10;

/// A record's headers and value.
pub(crate) struct Record {
    pub(crate) headers: OwnedHeaders,
    pub(crate) body: Bytes,
    /// The size of the whole record, at most.
    pub(crate) bytes: usize,
}

/// Writes an event. `scratch` is for the names of headers.
pub(crate) fn write(form: Form, event: &Envelope, scratch: &mut String) -> Result<Record> {
    let mut headers = Writing::new(event);
    let body = match form {
        Form::Binary => {
            headers.put(CONTENT_TYPE, &event.content_type);
            scratch.clear();
            scratch.push_str(PREFIX);
            cloudevents::each_attribute(event, |name, value| {
                scratch.truncate(PREFIX.len());
                scratch.push_str(name);
                headers.put(scratch, value);
            });
            if let Some(trace) = event.trace {
                headers.put(TRACE, &trace.to_string());
            }
            event.data.clone()
        }
        Form::Structured(_) => {
            let message = form.write(event)?;
            if let Some(content_type) = &message.content_type {
                headers.put(CONTENT_TYPE, content_type);
            }
            if let Some(trace) = &message.traceparent {
                headers.put(TRACE, trace);
            }
            message.body
        }
    };
    let key_bytes = event.key.as_ref().map_or(0, |key| key.len());
    Ok(Record {
        headers: headers.headers.unwrap_or_default(),
        bytes: FRAME_BYTES + key_bytes + body.len() + headers.bytes,
        body,
    })
}

/// Headers that are being written; the client library keeps a copy of each.
struct Writing {
    /// Always there between two headers.
    headers: Option<OwnedHeaders>,
    bytes: usize,
}

impl Writing {
    fn new(event: &Envelope) -> Self {
        // More than these are rare: the library makes room then.
        const USUAL: usize = 14;
        Self {
            headers: Some(OwnedHeaders::new_with_capacity(
                USUAL + event.extensions.len(),
            )),
            bytes: 0,
        }
    }

    fn put(&mut self, name: &str, value: &str) {
        self.bytes += HEADER_BYTES + name.len() + value.len();
        let header = Header {
            key: name,
            value: Some(value),
        };
        self.headers = self.headers.take().map(|headers| headers.insert(header));
    }
}
