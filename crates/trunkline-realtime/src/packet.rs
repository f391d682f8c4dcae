//! Packets of Socket.IO, protocol 5: what they say, and how that is written.

use bytes::Bytes;
use bytestring::ByteString;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use trunkline_core::{Error, Result};

use crate::engine::packet::{bad, head};

/// The most attachments of one packet.
pub(crate) const ATTACHMENTS_MAX: usize = 64;

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Connect,
    Disconnect,
    Event,
    Ack,
    ConnectError,
}

/// A packet of a client; its attachments follow in packets of their own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Packet {
    pub(crate) kind: Kind,
    pub(crate) namespace: ByteString,
    pub(crate) ack: Option<u64>,
    pub(crate) data: Option<Value>,
    pub(crate) attachments: usize,
}

impl Packet {
    /// Reads a packet of a client: `<type>[<attachments>-][<namespace>,][<ack>][<JSON>]`.
    ///
    /// # Errors
    /// `InvalidInput` for whatever is not of this form, or not what a client may send.
    pub(crate) fn of_text(text: &str) -> Result<Self> {
        Self::read(text)?.checked()
    }

    /// Reads a packet of anybody.
    ///
    /// # Errors
    /// `InvalidInput` for whatever is not of this form.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let mut chars = text.chars();
        let (kind, binary) = match chars.next() {
            Some('0') => (Kind::Connect, false),
            Some('1') => (Kind::Disconnect, false),
            Some('2') => (Kind::Event, false),
            Some('3') => (Kind::Ack, false),
            Some('4') => (Kind::ConnectError, false),
            Some('5') => (Kind::Event, true),
            Some('6') => (Kind::Ack, true),
            _ => return Err(bad("expected a packet of type 0 to 6").with("found", head(text))),
        };
        let mut rest = chars.as_str();
        let mut attachments = 0;
        if binary {
            let (count, after) = rest
                .split_once('-')
                .ok_or_else(|| bad("expected how many attachments follow, such as `1-`"))?;
            attachments = count
                .parse()
                .ok()
                .filter(|count| *count <= ATTACHMENTS_MAX)
                .ok_or_else(|| bad("expected at most 64 attachments").with("found", head(count)))?;
            rest = after;
        }
        let mut namespace = ByteString::from_static("/");
        if rest.starts_with('/') {
            let (name, after) = rest.split_once(',').unwrap_or((rest, ""));
            // What a client adds as a query is not part of the name.
            let name = name.split('?').next().unwrap_or(name);
            namespace = ByteString::from(name);
            rest = after;
        }
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (id, json) = rest.split_at(digits);
        let ack = match id {
            "" => None,
            id => Some(
                id.parse()
                    .map_err(|_| bad("expected an acknowledgement's number"))?,
            ),
        };
        let data =
            match json {
                "" => None,
                json => Some(serde_json::from_str(json).map_err(|error| {
                    bad("expected JSON at the end of a packet").with_source(error)
                })?),
            };
        Ok(Self {
            kind,
            namespace,
            ack,
            data,
            attachments,
        })
    }

    fn checked(self) -> Result<Self> {
        let args = self.data.as_ref().and_then(Value::as_array);
        let fits = match self.kind {
            Kind::Event => args.is_some_and(|args| args.first().is_some_and(Value::is_string)),
            Kind::Ack => self.ack.is_some() && args.is_some(),
            Kind::Connect => self.data.as_ref().is_none_or(Value::is_object),
            Kind::Disconnect => self.data.is_none(),
            Kind::ConnectError => false,
        };
        match fits {
            true => Ok(self),
            false => Err(bad("the packet's data does not fit its type")),
        }
    }
}

/// What an event or an acknowledgement carries: values, and bytes that stand beside them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Args {
    pub(crate) values: Vec<Value>,
    pub(crate) attachments: Vec<Bytes>,
}

impl Args {
    /// The value at a place; `null` where there is none.
    ///
    /// # Errors
    /// `InvalidInput` (`payload_invalid`) when it is of another form, which says where and what was expected there.
    pub fn get<T: DeserializeOwned>(&self, at: usize) -> Result<T> {
        let value = self.values.get(at).unwrap_or(&Value::Null);
        serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let inside = match &*path {
                "." => String::new(),
                path => format!(" at `{}`", short(path)),
            };
            let why = error.into_inner();
            let text = format!("argument {at}{inside}: {}", short(&why.to_string()));
            Error::invalid("payload_invalid", text).with_source(why)
        })
    }

    /// The bytes that the value at a place stands for.
    ///
    /// # Errors
    /// `InvalidInput` (`payload_invalid`) when it stands for none.
    pub fn bytes(&self, at: usize) -> Result<Bytes> {
        let number = self.values.get(at).and_then(placeholder);
        let found = number.and_then(|number| self.attachments.get(number));
        found.cloned().ok_or_else(|| {
            Error::invalid("payload_invalid", "expected bytes as an argument").with("argument", at)
        })
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// What a client is told of what it sent: not all of that again.
fn short(text: &str) -> String {
    const MAX: usize = 200;
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn placeholder(value: &Value) -> Option<usize> {
    let number = value.get("num")?.as_u64()?;
    value.get("_placeholder")?.as_bool()?.then_some(())?;
    usize::try_from(number).ok()
}

/// What is sent to clients: written once, however many get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// A message of Engine.IO, with its `4`.
    pub(crate) text: Utf8Bytes,
    pub(crate) attachments: Vec<Bytes>,
}

impl Frame {
    /// A text packet as it is.
    pub(crate) fn text(text: impl Into<Utf8Bytes>) -> Self {
        Self {
            text: text.into(),
            attachments: Vec::new(),
        }
    }

    /// A packet without attachments and acknowledgement.
    pub(crate) fn of(kind: Kind, namespace: &str, data: Option<&Value>) -> Self {
        let mut text = begin(kind, namespace, 0);
        if let Some(data) = data {
            text.push_str(&data.to_string());
        }
        Self::text(text)
    }

    /// An event with its arguments, and what follows them: bytes, an offset for whoever recovers.
    ///
    /// # Errors
    /// `InvalidInput` when the data can't be written as JSON, or there are too many attachments.
    pub(crate) fn event(
        namespace: &str,
        ack: Option<u64>,
        (name, data): (&str, &impl Serialize),
        (attachments, offset): (Vec<Bytes>, Option<&str>),
    ) -> Result<Self> {
        check_attachments(&attachments)?;
        let mut text = begin(Kind::Event, namespace, attachments.len());
        if let Some(ack) = ack {
            text.push_str(&ack.to_string());
        }
        text.push('[');
        text.push_str(&json(&name)?);
        text.push(',');
        text.push_str(&json(data)?);
        for number in 0..attachments.len() {
            text.push_str(&format!(",{{\"_placeholder\":true,\"num\":{number}}}"));
        }
        if let Some(offset) = offset {
            text.push(',');
            text.push_str(&json(&offset)?);
        }
        text.push(']');
        Ok(Self {
            text: text.into(),
            attachments,
        })
    }

    /// The answer to an event.
    ///
    /// # Errors
    /// `InvalidInput` when the data can't be written as JSON.
    pub(crate) fn ack(namespace: &str, ack: u64, data: Option<&impl Serialize>) -> Result<Self> {
        let mut text = begin(Kind::Ack, namespace, 0);
        let data = data.map(json).transpose()?.unwrap_or_default();
        text.push_str(&format!("{ack}[{data}]"));
        Ok(Self::text(text))
    }

    /// How many bytes it takes.
    pub(crate) fn len(&self) -> usize {
        let attachments: usize = self.attachments.iter().map(Bytes::len).sum();
        self.text.len() + attachments
    }
}

/// Whether a packet may have so many.
pub(crate) fn check_attachments(attachments: &[Bytes]) -> Result<()> {
    if attachments.len() > ATTACHMENTS_MAX {
        return Err(bad("expected at most 64 attachments").with("found", attachments.len()));
    }
    Ok(())
}

fn begin(kind: Kind, namespace: &str, attachments: usize) -> String {
    let digit = match (kind, attachments > 0) {
        (Kind::Connect, _) => '0',
        (Kind::Disconnect, _) => '1',
        (Kind::Event, false) => '2',
        (Kind::Ack, false) => '3',
        (Kind::ConnectError, _) => '4',
        (Kind::Event, true) => '5',
        (Kind::Ack, true) => '6',
    };
    let mut text = String::with_capacity(64);
    text.push('4');
    text.push(digit);
    if attachments > 0 {
        text.push_str(&format!("{attachments}-"));
    }
    if namespace != "/" {
        text.push_str(namespace);
        text.push(',');
    }
    text
}

fn json(data: &impl Serialize) -> Result<String> {
    serde_json::to_string(data).map_err(unwritable)
}

/// The error of data that can't be written.
pub(crate) fn unwritable(error: serde_json::Error) -> Error {
    let text = "an event's data can't be written as JSON";
    Error::invalid("payload_unwritable", text).with_source(error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_clients_send_is_read() {
        let connect = Packet::of_text("0/games,{\"token\":\"t\"}").unwrap();
        assert_eq!(
            (connect.kind, &*connect.namespace),
            (Kind::Connect, "/games")
        );
        assert_eq!(connect.data, Some(json!({ "token": "t" })));
        let event = Packet::of_text("2/games,12[\"move\",{\"x\":1}]").unwrap();
        assert_eq!((event.kind, event.ack), (Kind::Event, Some(12)));
        let binary = Packet::of_text("51-[\"file\",{\"_placeholder\":true,\"num\":0}]").unwrap();
        assert_eq!((&*binary.namespace, binary.attachments), ("/", 1));
        let ack = Packet::of_text("3/a?b=c,7[]").unwrap();
        assert_eq!((&*ack.namespace, ack.ack), ("/a", Some(7)));
        assert_eq!(Packet::of_text("1/games,").unwrap().kind, Kind::Disconnect);
    }

    #[test]
    fn what_is_no_packet_is_told() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "7",
            "2",
            "2[]",
            "2[1]",
            "2{}",
            "3[]",
            "3/a,[]",
            "31",
            "0[]",
            "1{}",
            "4{}",
            "5[\"a\"]",
            "565-[\"a\"]",
            "5x-[\"a\"]",
            "2/a,99999999999999999999[\"a\"]",
            "2[\"a\"",
            "2[\"a\"]x",
            &format!("2{deep}"),
        ] {
            let error = Packet::of_text(text).unwrap_err();
            assert_eq!(error.code(), "packet_invalid", "{}", head(text));
        }
    }

    #[test]
    fn what_is_sent_is_as_the_protocol_has_it() {
        let event = Frame::event(
            "/games",
            Some(3),
            ("moved", &json!({ "x": 1 })),
            (vec![], None),
        );
        assert_eq!(
            event.unwrap().text.as_str(),
            "42/games,3[\"moved\",{\"x\":1}]"
        );
        let bytes = vec![Bytes::from_static(b"ab")];
        let event = Frame::event("/", None, ("file", &"f"), (bytes, Some("o")));
        assert_eq!(
            event.unwrap().text.as_str(),
            "451-[\"file\",\"f\",{\"_placeholder\":true,\"num\":0},\"o\"]"
        );
        let ack = Frame::ack("/games", 9, Some(&json!(true))).unwrap();
        assert_eq!(ack.text.as_str(), "43/games,9[true]");
        assert_eq!(
            Frame::ack("/", 0, None::<&()>).unwrap().text.as_str(),
            "430[]"
        );
        let refused = Frame::of(Kind::ConnectError, "/a", Some(&json!({ "message": "no" })));
        assert_eq!(refused.text.as_str(), "44/a,{\"message\":\"no\"}");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,200}") {
            drop(Packet::of_text(&text));
            drop(crate::engine::packet::Packet::all_of(&text));
        }

        #[test]
        fn what_is_written_can_be_read(name in ".{0,20}", ack in proptest::option::of(0_u64..1_000), text in ".{0,50}") {
            let frame = Frame::event("/n", ack, (&name, &text), (vec![], None)).unwrap();
            let read = Packet::of_text(&frame.text.as_str()[1..]).unwrap();
            prop_assert_eq!(read.ack, ack);
            prop_assert_eq!(read.data, Some(json!([name, text])));
        }
    }
}
