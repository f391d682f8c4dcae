//! JSON objects with their values left as they are.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// One member of an object, its value as it was written.
#[derive(Debug, Clone)]
pub(super) struct Member<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) value: &'a str,
}

#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Members<'a>(Vec<Member<'a>>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(16);
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &RawValue>()? {
                    members.push(Member {
                        name,
                        value: value.get(),
                    });
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

/// The members of an object, in order.
pub(super) fn members(text: &[u8]) -> Result<Vec<Member<'_>>, serde_json::Error> {
    serde_json::from_slice::<Members<'_>>(text).map(|members| members.0)
}

/// What sort of value it is, for people.
pub(super) fn sort_of(value: &str) -> &'static str {
    match value.as_bytes().first() {
        Some(b'"') => "a text",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The text that a value is, if it is one; shared with `whole` if it has no escapes.
pub(super) fn text(value: &str, whole: &Bytes) -> Option<ByteString> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str::<String>(value)
            .ok()
            .map(ByteString::from);
    }
    ByteString::try_from(whole.slice_ref(inner.as_bytes())).ok()
}

/// A text as a JSON value.
pub(super) fn quote(text: &str) -> String {
    serde_json::to_string(text).expect("a text can be written as JSON")
}

/// Appends a value without the space that has no meaning.
pub(super) fn minify(value: &str, into: &mut Vec<u8>) {
    let (mut in_text, mut escaped) = (false, false);
    for byte in value.bytes() {
        if in_text {
            in_text = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
            continue;
        } else {
            in_text = byte == b'"';
        }
        into.push(byte);
    }
}
