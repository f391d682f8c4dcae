//! Packets of Engine.IO, protocol 4, and several of them in one body of HTTP.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use trunkline_core::{Error, Result};

/// What stands between two packets in a body.
const SEPARATOR: char = '\u{1e}';

/// One packet of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packet {
    Close,
    Ping(String),
    Pong,
    Message(String),
    Binary(Bytes),
    Upgrade,
    Noop,
}

impl Packet {
    /// Reads a text packet: a digit, and what follows it.
    ///
    /// # Errors
    /// `InvalidInput` for another digit.
    pub(crate) fn of_text(text: &str) -> Result<Self> {
        let mut chars = text.chars();
        let kind = chars.next();
        let rest = chars.as_str();
        match kind {
            Some('1') => Ok(Self::Close),
            Some('2') => Ok(Self::Ping(rest.to_owned())),
            Some('3') => Ok(Self::Pong),
            Some('4') => Ok(Self::Message(rest.to_owned())),
            Some('5') => Ok(Self::Upgrade),
            Some('6') => Ok(Self::Noop),
            _ => Err(bad("expected a packet of type 1 to 6").with("found", head(text))),
        }
    }

    /// Reads all packets of a body.
    ///
    /// # Errors
    /// `InvalidInput` for one that is none.
    pub(crate) fn all_of(body: &str) -> Result<Vec<Self>> {
        body.split(SEPARATOR)
            .map(|text| match text.strip_prefix('b') {
                None => Self::of_text(text),
                Some(coded) => STANDARD
                    .decode(coded)
                    .map(|bytes| Self::Binary(bytes.into()))
                    .map_err(|error| bad("expected base64 behind `b`").with_source(error)),
            })
            .collect()
    }
}

/// A body that is being filled with packets.
#[derive(Debug, Default)]
pub(crate) struct Body(String);

impl Body {
    pub(crate) fn text(&mut self, packet: &str) {
        self.separate();
        self.0.push_str(packet);
    }

    pub(crate) fn binary(&mut self, bytes: &[u8]) {
        self.separate();
        self.0.push('b');
        STANDARD.encode_string(bytes, &mut self.0);
    }

    pub(crate) fn into_text(self) -> String {
        self.0
    }

    fn separate(&mut self) {
        if !self.0.is_empty() {
            self.0.push(SEPARATOR);
        }
    }
}

pub(crate) fn bad(text: &'static str) -> Error {
    Error::invalid("packet_invalid", text)
}

/// So much of it as helps whoever reads an error.
pub(crate) fn head(text: &str) -> String {
    text.chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_gives_the_packets_that_were_put_into_it() {
        let mut body = Body::default();
        body.text("4hello");
        body.binary(&[0, 255, 30]);
        body.text("2");
        let text = body.into_text();
        assert_eq!(text, "4hello\u{1e}bAP8e\u{1e}2");
        assert_eq!(
            Packet::all_of(&text).unwrap(),
            [
                Packet::Message("hello".to_owned()),
                Packet::Binary(Bytes::from_static(&[0, 255, 30])),
                Packet::Ping(String::new()),
            ]
        );
    }

    #[test]
    fn what_is_no_packet_is_told() {
        for body in ["", "0", "9x", "4a\u{1e}", "b***", "\u{1e}4a"] {
            assert_eq!(
                Packet::all_of(body).unwrap_err().code(),
                "packet_invalid",
                "{body:?}"
            );
        }
    }
}
