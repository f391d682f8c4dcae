//! An event as an entry of a stream, and as a message of a channel.

use bytes::Bytes;
use bytestring::ByteString;
use redis::{Cmd, Value};
use trunkline_bus::unreadable;
use trunkline_core::{
    Arrival, Dialect, Env, Envelope, Error, ErrorKind, Form, Message, Result, Timestamp,
};

use crate::value;

/// The field of the data; CloudEvents forbids an attribute of this name.
const DATA: &str = "data";
const CONTENT_TYPE: &str = "datacontenttype";
const TRACEPARENT: &str = "traceparent";

/// What came, and why it is no event if it is none.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) envelope: Envelope,
    pub(crate) unreadable: Option<Error>,
}

/// The command that appends an event to a stream: a field for each attribute, then the data.
pub(crate) fn append(stream: &str, form: Form, event: &Envelope) -> Result<Cmd> {
    let message = form.write(event)?;
    let traced = |(name, _): &(ByteString, ByteString)| name == TRACEPARENT;
    let traced = message.attributes.iter().any(traced);
    let plain = message.traceparent.as_ref().filter(|_| !traced);
    let texts: usize = message
        .attributes
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    let mut cmd = Cmd::with_capacity(
        9 + 2 * message.attributes.len(),
        160 + stream.len() + texts + message.body.len(),
    );
    cmd.arg("XADD").arg(stream).arg("*");
    for (name, value) in &message.attributes {
        cmd.arg(&**name).arg(&**value);
    }
    if let Some(traceparent) = plain {
        cmd.arg(TRACEPARENT).arg(&**traceparent);
    }
    if let Some(content_type) = &message.content_type {
        cmd.arg(CONTENT_TYPE).arg(&**content_type);
    }
    cmd.arg(DATA).arg(&*message.body);
    Ok(cmd)
}

/// The command that tells a channel of an event. A message has no place for attributes: the form is
/// structured, CloudEvents' where the configuration says binary.
pub(crate) fn tell(channel: &str, form: Form, event: &Envelope) -> Result<Cmd> {
    let form = match form {
        Form::Binary => Form::Structured(Dialect::CloudEvents),
        form @ Form::Structured(_) => form,
    };
    let message = form.write(event)?;
    let mut cmd = Cmd::with_capacity(3, 16 + channel.len() + message.body.len());
    cmd.arg("PUBLISH").arg(channel).arg(&*message.body);
    Ok(cmd)
}

/// How entries and messages are read.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(crate) form: Form,
    pub(crate) event_bytes_max: usize,
    pub(crate) env: Env,
}

impl Reader {
    /// Reads an entry's fields. `place` says where it is, should it be no event.
    pub(crate) fn entry(
        &self,
        topic: &ByteString,
        fields: Vec<Value>,
        place: impl FnOnce() -> String,
    ) -> Read {
        let at = self.env.now();
        let mut message = Message::default();
        let mut has_data = false;
        let mut wrong = None;
        let mut fields = fields.into_iter();
        while let (Some(name), Some(content)) = (fields.next(), fields.next()) {
            let (Some(name), Some(content)) = (value::bytes(name), value::bytes(content)) else {
                continue;
            };
            match &*name {
                b"data" => {
                    has_data = true;
                    message.body = content;
                }
                _ => match (ByteString::try_from(name), ByteString::try_from(content)) {
                    (Ok(name), Ok(text)) => take(&mut message, name, text),
                    _ => wrong = Some(not_text()),
                },
            }
        }
        let is_event = |(name, _): &(ByteString, ByteString)| name == "specversion";
        if !has_data && !message.attributes.iter().any(is_event) {
            wrong = Some(no_event());
        }
        let body = if has_data {
            message.body.clone()
        } else {
            listed(&message)
        };
        match wrong {
            Some(error) => kept(topic, place(), body, at, error),
            None => self.message(topic, message, body, place),
        }
    }

    /// Reads what came over a channel.
    pub(crate) fn payload(
        &self,
        topic: &ByteString,
        body: Bytes,
        place: impl FnOnce() -> String,
    ) -> Read {
        let message = Message {
            body,
            ..Message::default()
        };
        let body = message.body.clone();
        self.message(topic, message, body, place)
    }

    fn message(
        &self,
        topic: &ByteString,
        message: Message,
        body: Bytes,
        place: impl FnOnce() -> String,
    ) -> Read {
        let at = self.env.now();
        if body.len() > self.event_bytes_max {
            let error = too_large(body.len(), self.event_bytes_max);
            return kept(topic, place(), body, at, error);
        }
        match self.form.read(message, &Arrival::new(topic.clone(), at)) {
            Ok(envelope) => Read {
                envelope,
                unreadable: None,
            },
            Err(error) => kept(topic, place(), body, at, error),
        }
    }
}

fn take(message: &mut Message, name: ByteString, text: ByteString) {
    match &*name {
        CONTENT_TYPE => message.content_type = Some(text),
        TRACEPARENT => {
            message.traceparent = Some(text.clone());
            message.attributes.push((name, text));
        }
        _ => message.attributes.push((name, text)),
    }
}

fn kept(topic: &str, place: String, body: Bytes, at: Timestamp, error: Error) -> Read {
    Read {
        envelope: unreadable(topic, place, body, at),
        unreadable: Some(error),
    }
}

/// The fields of an entry that has no data, a line each.
fn listed(message: &Message) -> Bytes {
    let lines = message.attributes.iter();
    let text: String = lines
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect();
    text.into()
}

pub(crate) fn too_large(bytes: usize, bytes_max: usize) -> Error {
    let message = "the event is larger than configured";
    Error::new(ErrorKind::TooLarge, "event_too_large", message)
        .with("bytes", bytes)
        .with("bytes_max", bytes_max)
}

fn not_text() -> Error {
    let message = "a field of the entry is not UTF-8; expected CloudEvents attributes and `data`";
    Error::invalid("event_form_invalid", message)
}

fn no_event() -> Error {
    let message =
        "the entry has none of the fields of an event; expected CloudEvents attributes and `data`";
    Error::invalid("event_form_invalid", message)
}

#[cfg(test)]
mod tests {
    use trunkline_testkit::event;

    use super::*;

    fn reader(form: Form) -> Reader {
        Reader {
            form,
            event_bytes_max: 1000,
            env: Env::seeded(1),
        }
    }

    fn fields(cmd: &Cmd) -> Vec<Value> {
        let args = cmd.args_iter().skip(3);
        args.map(|arg| match arg {
            redis::Arg::Simple(bytes) => Value::BulkString(bytes.to_vec()),
            _ => Value::Nil,
        })
        .collect()
    }

    fn read(fields: &[(&str, &[u8])]) -> Read {
        let flat = fields
            .iter()
            .flat_map(|(name, value)| [name.as_bytes(), value]);
        let flat = flat
            .map(|bytes| Value::BulkString(bytes.to_vec()))
            .collect();
        reader(Form::Binary).entry(&"t".into(), flat, || "t/0/1-1".to_owned())
    }

    #[test]
    fn an_event_comes_back_in_every_form() {
        for form in ["binary", "cloudevents", "tablium", "storefront", "retail"] {
            let form: Form = form.parse().unwrap();
            let event = Envelope {
                trace: "00-000102030405060708090a0b0c0d0e0f-0102030405060708-01"
                    .parse()
                    .ok(),
                event_type: "order.created".into(),
                topic: "order.created".into(),
                ..event("t", "k", "id-1", "{\"a\":1}")
            };
            let cmd = append("s", form, &event).unwrap();
            let back = reader(form).entry(&event.topic, fields(&cmd), String::new);
            assert_eq!(back.envelope, event, "{form}");
            assert!(back.unreadable.is_none());
            let names = fields(&cmd).into_iter().step_by(2);
            let names: Vec<_> = names.filter_map(value::text).collect();
            let mut once = names.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), names.len(), "no field stands twice: {names:?}");
        }
    }

    #[test]
    fn what_is_no_event_is_kept_with_its_reason() {
        let large = vec![b'x'; 1001];
        for (fields, body) in [
            (vec![("data", &b"not json"[..])], "not json"),
            (vec![("temperature", &b"21"[..])], "temperature: 21\n"),
            (vec![("specversion", &b"1.0"[..]), ("data", b"{}")], "{}"),
            (vec![("id", &b"\xff\xfe"[..]), ("data", b"1")], "1"),
            (vec![("specversion", &b"7"[..])], "specversion: 7\n"),
        ] {
            let got = read(&fields);
            assert_eq!(
                got.envelope.event_type,
                trunkline_bus::UNREADABLE,
                "{fields:?}"
            );
            assert_eq!(got.envelope.id, "t/0/1-1");
            assert_eq!(got.envelope.data, body, "{fields:?}");
            assert_eq!(got.unreadable.unwrap().kind(), ErrorKind::InvalidInput);
        }
        let got = read(&[("data", &large)]);
        assert_eq!(got.unreadable.unwrap().kind(), ErrorKind::TooLarge);
        assert_eq!(got.envelope.data.len(), 1001, "all of it is kept");
    }
}
