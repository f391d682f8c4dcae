//! A message's properties.

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use super::codec::{Fields, Value, put_short, put_table};

const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const CORRELATION_ID: u16 = 1 << 10;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;
const TYPE: u16 = 1 << 5;
const PERSISTENT: u8 = 2;
/// The longest short string.
const SHORT_BYTES_MAX: usize = 255;

/// What is written beside a body. What does not fit a short string is left out: it stands in the headers, too.
#[derive(Debug, Default)]
pub(crate) struct Properties<'a> {
    pub(crate) content_type: Option<&'a str>,
    pub(crate) headers: &'a [(ByteString, Value)],
    pub(crate) correlation_id: Option<&'a str>,
    pub(crate) message_id: Option<&'a str>,
    /// Seconds since 1970.
    pub(crate) timestamp: Option<u64>,
    pub(crate) kind: Option<&'a str>,
}

impl Properties<'_> {
    /// Writes them, persistent.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        let fits = |text: &&str| text.len() <= SHORT_BYTES_MAX;
        let content_type = self.content_type.filter(fits);
        let correlation_id = self.correlation_id.filter(fits);
        let message_id = self.message_id.filter(fits);
        let kind = self.kind.filter(fits);
        let flag = |set: bool, bit: u16| if set { bit } else { 0 };
        out.put_u16(
            DELIVERY_MODE
                | flag(content_type.is_some(), CONTENT_TYPE)
                | flag(!self.headers.is_empty(), HEADERS)
                | flag(correlation_id.is_some(), CORRELATION_ID)
                | flag(message_id.is_some(), MESSAGE_ID)
                | flag(self.timestamp.is_some(), TIMESTAMP)
                | flag(kind.is_some(), TYPE),
        );
        if let Some(text) = content_type {
            put_short(out, text);
        }
        if !self.headers.is_empty() {
            let headers = self.headers.iter();
            put_table(out, headers.map(|(name, value)| (&**name, value)));
        }
        out.put_u8(PERSISTENT);
        for text in [correlation_id, message_id].into_iter().flatten() {
            put_short(out, text);
        }
        if let Some(seconds) = self.timestamp {
            out.put_u64(seconds);
        }
        if let Some(text) = kind {
            put_short(out, text);
        }
    }
}

/// Headers in their order.
pub(crate) type Headers = Vec<(ByteString, Value)>;

/// The content type and the headers of a message that came; none if they are not what AMQP says.
pub(crate) fn read_headers(properties: Bytes) -> Option<(Option<Bytes>, Headers)> {
    let mut fields = Fields(properties);
    let flags = fields.short_number()?;
    let mut content_type = None;
    if flags & CONTENT_TYPE != 0 {
        content_type = Some(fields.short()?);
    }
    if flags & CONTENT_ENCODING != 0 {
        fields.short()?;
    }
    let headers = if flags & HEADERS == 0 {
        Vec::new()
    } else {
        fields.table()?
    };
    Some((content_type, headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_among_other_properties() {
        let long = "x".repeat(300);
        let headers = [("cloudEvents:id".into(), Value::text("1"))];
        let properties = Properties {
            content_type: Some("application/json"),
            headers: &headers,
            correlation_id: Some("flow"),
            message_id: Some(&long),
            timestamp: Some(5),
            kind: Some("order.created"),
        };
        let mut out = BytesMut::new();
        properties.write(&mut out);
        let whole = out.freeze();
        let (content_type, read) = read_headers(whole.clone()).unwrap();
        assert_eq!(content_type.unwrap(), "application/json");
        assert_eq!(read, headers);
        assert!(read_headers(whole.slice(..20)).is_none());
        let mut none = BytesMut::new();
        Properties::default().write(&mut none);
        assert_eq!(read_headers(none.freeze()).unwrap(), (None, Vec::new()));
    }
}
