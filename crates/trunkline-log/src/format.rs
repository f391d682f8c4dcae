//! The bytes of a segment: its header, and the frames of its batches.
//!
//! A segment is a header of 64 bytes and then batches, each a header of 48 bytes and a body, all in
//! multiples of 8; what follows the last batch is zeros. A body is events, then meta records
//! ([`crate::meta`]), then zeros up to a multiple of 8. An event is its slot (u32), its length (u32)
//! and its encoded envelope. All numbers are little endian.
//!
//! Both checksums of a batch begin with the log's id, and its header names the segment and the place
//! where it stands, so that nothing that was copied there passes for a batch.

/// Bytes of a segment's header.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 64;
/// Bytes of a batch's header.
pub(crate) const BATCH_HEADER_BYTES: usize = 48;
/// Batches begin at multiples of this.
pub(crate) const ALIGN: usize = 8;
/// Bytes before an event: slot and length.
pub(crate) const EVENT_HEADER_BYTES: usize = 8;

const SEGMENT_MAGIC: [u8; 8] = *b"TLLOG\x00\x00\x01";
const BATCH_MAGIC: [u8; 4] = *b"TLb1";

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log_id: u64,
    pub(crate) segment: u32,
    /// The sequence number of its first batch.
    pub(crate) sequence: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        let mut at = 0;
        put(&mut bytes, &mut at, &SEGMENT_MAGIC);
        put(&mut bytes, &mut at, &[0; 4]);
        put(&mut bytes, &mut at, &self.segment.to_le_bytes());
        put(&mut bytes, &mut at, &self.log_id.to_le_bytes());
        put(&mut bytes, &mut at, &self.sequence.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        at = 8;
        put(&mut bytes, &mut at, &crc.to_le_bytes());
        bytes
    }

    /// None when the bytes are no header of a segment.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SEGMENT_HEADER_BYTES] = bytes.try_into().ok()?;
        let mut fields = Fields(bytes);
        let magic: [u8; 8] = fields.array()?;
        fields.u32()?;
        let segment = fields.u32()?;
        let header = Self {
            log_id: fields.u64()?,
            segment,
            sequence: fields.u64()?,
        };
        (magic == SEGMENT_MAGIC && header.encode() == *bytes).then_some(header)
    }
}

/// What a batch says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) segment: u32,
    pub(crate) position: u32,
    /// Rises by one from batch to batch through all segments.
    pub(crate) sequence: u64,
    /// When it was written: microseconds since 1970, never less than the one before.
    pub(crate) time: i64,
    /// Bytes of the body, a multiple of 8.
    pub(crate) body_bytes: u32,
    /// How many of them are events.
    pub(crate) events_bytes: u32,
    pub(crate) body_crc: u32,
}

impl BatchHeader {
    pub(crate) fn encode(&self, log_id: u64) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        let mut at = 0;
        put(&mut bytes, &mut at, &BATCH_MAGIC);
        put(&mut bytes, &mut at, &[0; 4]);
        put(&mut bytes, &mut at, &self.segment.to_le_bytes());
        put(&mut bytes, &mut at, &self.position.to_le_bytes());
        put(&mut bytes, &mut at, &self.sequence.to_le_bytes());
        put(&mut bytes, &mut at, &self.time.to_le_bytes());
        put(&mut bytes, &mut at, &self.body_bytes.to_le_bytes());
        put(&mut bytes, &mut at, &self.events_bytes.to_le_bytes());
        put(&mut bytes, &mut at, &self.body_crc.to_le_bytes());
        let crc = crc(log_id, bytes.get(8..).unwrap_or_default());
        at = 4;
        put(&mut bytes, &mut at, &crc.to_le_bytes());
        bytes
    }

    /// None when the bytes are no header of a batch of this log.
    pub(crate) fn decode(bytes: &[u8], log_id: u64) -> Option<Self> {
        if !bytes.starts_with(&BATCH_MAGIC) {
            return None;
        }
        let bytes: &[u8; BATCH_HEADER_BYTES] = bytes.try_into().ok()?;
        let mut fields = Fields(bytes.get(8..)?);
        let header = Self {
            segment: fields.u32()?,
            position: fields.u32()?,
            sequence: fields.u64()?,
            time: i64::from_le_bytes(fields.array()?),
            body_bytes: fields.u32()?,
            events_bytes: fields.u32()?,
            body_crc: fields.u32()?,
        };
        let sound = header.events_bytes <= header.body_bytes
            && (header.body_bytes as usize).is_multiple_of(ALIGN)
            && header.encode(log_id) == *bytes;
        sound.then_some(header)
    }

    /// Bytes of the whole batch.
    pub(crate) fn frame_bytes(&self) -> u64 {
        BATCH_HEADER_BYTES as u64 + u64::from(self.body_bytes)
    }
}

/// The checksum of some bytes of a log.
pub(crate) fn crc(log_id: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&log_id.to_le_bytes()), bytes)
}

/// Appends the head of an event whose encoded envelope follows; returns where its length stands.
pub(crate) fn begin_event(into: &mut Vec<u8>, slot: u32) -> usize {
    into.extend_from_slice(&slot.to_le_bytes());
    into.extend_from_slice(&[0; 4]);
    into.len()
}

/// Sets the length of the event whose envelope began at `start`; returns its bytes.
pub(crate) fn end_event(into: &mut [u8], start: usize) -> u32 {
    let bytes = u32::try_from(into.len() - start).unwrap_or(u32::MAX);
    if let Some(field) = into.get_mut(start - 4..start) {
        field.copy_from_slice(&bytes.to_le_bytes());
    }
    bytes
}

/// The events of a body: slot and encoded envelope. Ends early, with `None`, at what is none.
#[derive(Debug)]
pub(crate) struct Events<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Events<'a> {
    type Item = Option<(u32, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut fields = Fields(self.0);
        let event = (|| {
            let slot = fields.u32()?;
            let bytes = fields.u32()? as usize;
            Some((slot, fields.take(bytes)?))
        })();
        self.0 = if event.is_some() { fields.0 } else { &[] };
        Some(event)
    }
}

/// Numbers one after the other.
#[derive(Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }
}

fn put(bytes: &mut [u8], at: &mut usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(*at..*at + field.len()) {
        place.copy_from_slice(field);
    }
    *at += field.len();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_and_no_bit_of_them_may_change() {
        let segment = SegmentHeader {
            log_id: 7,
            segment: 3,
            sequence: 99,
        };
        assert_eq!(SegmentHeader::decode(&segment.encode()), Some(segment));
        let batch = BatchHeader {
            segment: 3,
            position: 64,
            sequence: 99,
            time: -5,
            body_bytes: 16,
            events_bytes: 9,
            body_crc: 1,
        };
        assert_eq!(BatchHeader::decode(&batch.encode(7), 7), Some(batch));
        assert_eq!(
            BatchHeader::decode(&batch.encode(7), 8),
            None,
            "another log's"
        );
        for bit in 0..BATCH_HEADER_BYTES * 8 {
            let mut bytes = batch.encode(7);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BatchHeader::decode(&bytes, 7), None, "bit {bit}");
        }
        for bit in 0..SEGMENT_HEADER_BYTES * 8 {
            let mut bytes = segment.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bytes), None, "bit {bit}");
        }
    }

    #[test]
    fn events_end_at_what_is_none() {
        let mut body = Vec::new();
        let start = begin_event(&mut body, 5);
        body.extend_from_slice(b"abc");
        end_event(&mut body, start);
        assert_eq!(Events(&body).collect::<Vec<_>>(), [Some((5, &b"abc"[..]))]);
        body.extend_from_slice(&[1, 0, 0, 0, 255, 255, 255, 255, 0]);
        assert_eq!(
            Events(&body).collect::<Vec<_>>(),
            [Some((5, &b"abc"[..])), None]
        );
    }
}
