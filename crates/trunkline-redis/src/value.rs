//! Taking the server's answers apart.

use bytes::Bytes;
use bytestring::ByteString;
use redis::Value;

use crate::id::Id;

pub(crate) fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) | Value::Set(values) => Some(values),
        _ => None,
    }
}

/// Bytes, taken over and not copied.
pub(crate) fn bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        Value::SimpleString(text) => Some(text.into()),
        Value::Okay => Some(Bytes::from_static(b"OK")),
        Value::Int(number) => Some(number.to_string().into()),
        _ => None,
    }
}

pub(crate) fn text(value: Value) -> Option<ByteString> {
    ByteString::try_from(bytes(value)?).ok()
}

pub(crate) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}

pub(crate) fn id(value: &Value) -> Option<Id> {
    match value {
        Value::BulkString(bytes) => Id::parse(bytes),
        Value::SimpleString(text) => Id::parse(text.as_bytes()),
        _ => None,
    }
}

/// An entry: its id, and its names and values in turn.
pub(crate) type Entry = (Id, Vec<Value>);

/// The entries of a stream, as `XRANGE` and `XREAD` give them. An entry that was deleted meanwhile has none.
pub(crate) fn entries(value: Value) -> Option<Vec<Entry>> {
    let entry = |value| {
        let mut parts = array(value)?.into_iter();
        let id = id(&parts.next()?)?;
        Some((id, parts.next().and_then(array).unwrap_or_default()))
    };
    array(value)?.into_iter().map(entry).collect()
}

/// What `XREAD` gives: streams with their entries; none when the time was up.
pub(crate) fn streams(value: Value) -> Option<Vec<(ByteString, Vec<Entry>)>> {
    if value == Value::Nil {
        return Some(Vec::new());
    }
    let stream = |value| {
        let mut parts = array(value)?.into_iter();
        Some((text(parts.next()?)?, entries(parts.next()?)?))
    };
    array(value)?.into_iter().map(stream).collect()
}
