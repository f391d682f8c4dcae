//! Fields, tables and frames as bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

pub(crate) const FRAME_METHOD: u8 = 1;
pub(crate) const FRAME_HEADER: u8 = 2;
pub(crate) const FRAME_BODY: u8 = 3;
pub(crate) const FRAME_HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xce;
/// Type, channel and size before the payload, and the end after it.
pub(crate) const FRAME_OVERHEAD: usize = 8;

/// A value of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A long string or a byte array: any bytes.
    Text(Bytes),
    Integer(i64),
    Flag(bool),
    Table(Vec<(&'static str, Value)>),
    /// Something that is no attribute of an event.
    Other,
}

impl Value {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(Bytes::copy_from_slice(text.as_bytes()))
    }
}

/// Writes a frame whose payload `fill` writes.
pub(crate) fn frame(out: &mut BytesMut, kind: u8, channel: u16, fill: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind);
    out.put_u16(channel);
    sized(out, fill);
    out.put_u8(FRAME_END);
}

/// Writes a method's frame whose arguments `fill` writes.
pub(crate) fn method(
    out: &mut BytesMut,
    channel: u16,
    method: u32,
    fill: impl FnOnce(&mut BytesMut),
) {
    frame(out, FRAME_METHOD, channel, |out| {
        out.put_u32(method);
        fill(out);
    });
}

/// Writes a size of four bytes and then what it is the size of.
fn sized(out: &mut BytesMut, fill: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_u32(0);
    fill(out);
    let size = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&size.to_be_bytes());
    }
}

/// Writes a short string; what is beyond 255 bytes is cut, so callers check before.
pub(crate) fn put_short(out: &mut BytesMut, text: &str) {
    let cut = text.floor_char_boundary(255);
    let text = text.get(..cut).unwrap_or_default();
    out.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.put_slice(text.as_bytes());
}

pub(crate) fn put_long(out: &mut BytesMut, bytes: &[u8]) {
    sized(out, |out| out.put_slice(bytes));
}

pub(crate) fn put_table<'a>(
    out: &mut BytesMut,
    fields: impl IntoIterator<Item = (&'a str, &'a Value)>,
) {
    sized(out, |out| {
        for (name, value) in fields {
            put_short(out, name);
            put_value(out, value);
        }
    });
}

fn put_value(out: &mut BytesMut, value: &Value) {
    match value {
        Value::Text(text) => {
            out.put_u8(b'S');
            put_long(out, text);
        }
        Value::Integer(number) => {
            out.put_u8(b'l');
            out.put_i64(*number);
        }
        Value::Flag(flag) => {
            out.put_u8(b't');
            out.put_u8(u8::from(*flag));
        }
        Value::Table(fields) => {
            out.put_u8(b'F');
            put_table(out, fields.iter().map(|(name, value)| (*name, value)));
        }
        Value::Other => out.put_u8(b'V'),
    }
}

/// Takes fields from bytes; none where they end too early or are of no known type.
pub(crate) struct Fields(pub(crate) Bytes);

impl Fields {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    pub(crate) fn short_number(&mut self) -> Option<u16> {
        self.0.try_get_u16().ok()
    }

    pub(crate) fn number(&mut self) -> Option<u32> {
        self.0.try_get_u32().ok()
    }

    pub(crate) fn long_number(&mut self) -> Option<u64> {
        self.0.try_get_u64().ok()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Option<Bytes> {
        (count <= self.0.len()).then(|| self.0.split_to(count))
    }

    pub(crate) fn short(&mut self) -> Option<Bytes> {
        let count = self.byte()?;
        self.bytes(usize::from(count))
    }

    pub(crate) fn long(&mut self) -> Option<Bytes> {
        let count = self.number()?;
        self.bytes(usize::try_from(count).ok()?)
    }

    /// A table's fields in their order.
    pub(crate) fn table(&mut self) -> Option<Vec<(ByteString, Value)>> {
        let mut inner = Self(self.long()?);
        let mut fields = Vec::new();
        while !inner.0.is_empty() {
            let name = ByteString::try_from(inner.short()?).ok()?;
            fields.push((name, inner.value()?));
        }
        Some(fields)
    }

    fn value(&mut self) -> Option<Value> {
        Some(match self.byte()? {
            b't' => Value::Flag(self.byte()? != 0),
            b'b' => Value::Integer(i64::from(self.0.try_get_i8().ok()?)),
            b'B' => Value::Integer(i64::from(self.byte()?)),
            b's' => Value::Integer(i64::from(self.0.try_get_i16().ok()?)),
            b'u' => Value::Integer(i64::from(self.short_number()?)),
            b'I' => Value::Integer(i64::from(self.0.try_get_i32().ok()?)),
            b'i' => Value::Integer(i64::from(self.number()?)),
            b'l' | b'L' => Value::Integer(self.0.try_get_i64().ok()?),
            b'S' | b'x' => Value::Text(self.long()?),
            b'A' | b'F' => self.long().map(|_| Value::Other)?,
            b'f' => self.bytes(4).map(|_| Value::Other)?,
            b'd' | b'T' => self.bytes(8).map(|_| Value::Other)?,
            b'D' => self.bytes(5).map(|_| Value::Other)?,
            b'V' => Value::Other,
            _ => return None,
        })
    }
}

/// A frame that came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) channel: u16,
    pub(crate) payload: Bytes,
}

/// What is wrong with the bytes that came.
#[derive(Debug)]
pub(crate) struct Malformed;

/// Takes a frame from the front of `buffer`, if it is there whole.
pub(crate) fn take_frame(
    buffer: &mut BytesMut,
    frame_max: usize,
) -> Result<Option<Frame>, Malformed> {
    let mut head = buffer.as_ref();
    let (Ok(kind), Ok(channel), Ok(size)) =
        (head.try_get_u8(), head.try_get_u16(), head.try_get_u32())
    else {
        return Ok(None);
    };
    let size = usize::try_from(size).map_err(|_| Malformed)?;
    if size > frame_max {
        return Err(Malformed);
    }
    if buffer.len() < size + FRAME_OVERHEAD {
        buffer.reserve(size + FRAME_OVERHEAD - buffer.len());
        return Ok(None);
    }
    let mut whole = buffer.split_to(size + FRAME_OVERHEAD).freeze();
    if whole.last() != Some(&FRAME_END) {
        return Err(Malformed);
    }
    whole.advance(FRAME_OVERHEAD - 1);
    whole.truncate(size);
    Ok(Some(Frame {
        kind,
        channel,
        payload: whole,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_whole_and_only_when_it_is_whole() {
        let mut written = BytesMut::new();
        method(&mut written, 7, 0x003c_0050, |out| put_short(out, "hello"));
        for cut in 0..written.len() {
            let mut part = BytesMut::from(written.get(..cut).unwrap());
            assert!(take_frame(&mut part, 4096).unwrap().is_none(), "{cut}");
        }
        let mut broken = written.clone();
        let end = broken.len() - 1;
        *broken.get_mut(end).unwrap() = 0;
        assert!(take_frame(&mut broken, 4096).is_err());
        assert!(
            take_frame(&mut written.clone(), 4).is_err(),
            "it is too large"
        );
        let frame = take_frame(&mut written, 4096).unwrap().unwrap();
        assert_eq!((frame.kind, frame.channel), (FRAME_METHOD, 7));
        let mut fields = Fields(frame.payload);
        assert_eq!(fields.number(), Some(0x003c_0050));
        assert_eq!(fields.short().unwrap(), "hello");
        assert!(fields.byte().is_none() && written.is_empty());
    }

    #[test]
    fn a_table_comes_back_and_a_torn_one_does_not() {
        let inner = Value::Table(vec![("deep", Value::Integer(1))]);
        let fields = [
            ("text", Value::text("ü")),
            ("number", Value::Integer(-5)),
            ("flag", Value::Flag(true)),
            ("table", inner),
            ("bytes", Value::Text(Bytes::from_static(&[0xff, 0]))),
        ];
        let mut out = BytesMut::new();
        put_table(&mut out, fields.iter().map(|(name, value)| (*name, value)));
        let whole = out.freeze();
        let read = Fields(whole.clone()).table().unwrap();
        for ((name, value), (expected, sent)) in read.iter().zip(&fields) {
            assert_eq!(name, expected);
            match sent {
                Value::Table(_) => assert_eq!(value, &Value::Other),
                sent => assert_eq!(value, sent),
            }
        }
        assert_eq!(read.len(), fields.len());
        for cut in 0..whole.len() {
            assert!(Fields(whole.slice(..cut)).table().is_none(), "{cut}");
        }
    }
}
