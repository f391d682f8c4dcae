//! Where events stand in the segments: points per slot, and the summary of a segment beside it.
//!
//! The file beside a sealed segment is only a hint that saves reading the segment at start. If it is
//! missing, damaged or another's, the segment is read instead.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::catalog::Slot;
use crate::format::Fields;

/// From one point of a slot to the next there are at least so many bytes of journal.
pub(crate) const POINT_EVERY_BYTES: u32 = 64 * 1024;

/// The first event of a slot in some batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) offset: u64,
    pub(crate) segment: u32,
    /// Where its batch begins.
    pub(crate) position: u32,
    /// When the batch was written.
    pub(crate) time: i64,
}

/// What a segment holds of a slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SlotSummary {
    /// The offset of its first event here.
    pub(crate) first: u64,
    /// One beyond its last event here.
    pub(crate) end: u64,
    pub(crate) bytes: u64,
    pub(crate) last_time: i64,
    /// Offset, position and time.
    pub(crate) points: Vec<(u64, u32, i64)>,
}

/// What a segment holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) segment: u32,
    /// Where its last batch ends.
    pub(crate) end: u64,
    pub(crate) slots: BTreeMap<Slot, SlotSummary>,
}

impl Summary {
    pub(crate) fn new(segment: u32) -> Self {
        Self {
            segment,
            ..Self::default()
        }
    }

    /// Notes the events of a slot in a batch. Returns the point if this is one.
    pub(crate) fn note(&mut self, slot: Slot, place: Noted) -> Option<Point> {
        let Noted {
            base,
            count,
            bytes,
            position,
            time,
        } = place;
        let entry = self.slots.entry(slot).or_default();
        if entry.points.is_empty() {
            entry.first = base;
        }
        entry.end = base + u64::from(count);
        entry.bytes += bytes;
        entry.last_time = entry.last_time.max(time);
        let last = entry.points.last();
        let is_point = last.is_none_or(|(_, at, _)| position - at >= POINT_EVERY_BYTES);
        is_point.then(|| {
            entry.points.push((base, position, time));
            Point {
                offset: base,
                segment: self.segment,
                position,
                time,
            }
        })
    }

    pub(crate) fn encode(&self, log_id: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.segment.to_le_bytes());
        bytes.extend_from_slice(&self.end.to_le_bytes());
        for (slot, entry) in &self.slots {
            bytes.extend_from_slice(&slot.to_le_bytes());
            bytes.extend_from_slice(&entry.first.to_le_bytes());
            bytes.extend_from_slice(&entry.end.to_le_bytes());
            bytes.extend_from_slice(&entry.bytes.to_le_bytes());
            bytes.extend_from_slice(&entry.last_time.to_le_bytes());
            let count = u32::try_from(entry.points.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&count.to_le_bytes());
            for (offset, position, time) in &entry.points {
                bytes.extend_from_slice(&offset.to_le_bytes());
                bytes.extend_from_slice(&position.to_le_bytes());
                bytes.extend_from_slice(&time.to_le_bytes());
            }
        }
        let crc = crate::format::crc(log_id, bytes.get(12..).unwrap_or_default());
        if let Some(field) = bytes.get_mut(8..12) {
            field.copy_from_slice(&crc.to_le_bytes());
        }
        bytes
    }

    /// None when the bytes are not what [`Summary::encode`] made for this log.
    pub(crate) fn decode(bytes: &[u8], log_id: u64) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let mut fields = Fields(rest);
        if fields.u32()? != crate::format::crc(log_id, fields.0) {
            return None;
        }
        let mut summary = Self::new(fields.u32()?);
        summary.end = fields.u64()?;
        while !fields.0.is_empty() {
            let slot = fields.u32()?;
            let mut entry = SlotSummary {
                first: fields.u64()?,
                end: fields.u64()?,
                bytes: fields.u64()?,
                last_time: fields.i64()?,
                points: Vec::new(),
            };
            let count = fields.u32()? as usize;
            if count == 0 || count > fields.0.len() / POINT_BYTES {
                return None;
            }
            entry.points.reserve_exact(count);
            for _ in 0..count {
                entry
                    .points
                    .push((fields.u64()?, fields.u32()?, fields.i64()?));
            }
            summary.slots.insert(slot, entry);
        }
        Some(summary)
    }

    /// The points of a slot here, oldest first.
    pub(crate) fn points(&self, slot: Slot) -> impl Iterator<Item = Point> + '_ {
        let points = self.slots.get(&slot).map(|entry| entry.points.as_slice());
        points
            .unwrap_or_default()
            .iter()
            .map(|(offset, position, time)| Point {
                offset: *offset,
                segment: self.segment,
                position: *position,
                time: *time,
            })
    }
}

/// The events of a slot in a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noted {
    pub(crate) base: u64,
    pub(crate) count: u32,
    pub(crate) bytes: u64,
    pub(crate) position: u32,
    pub(crate) time: i64,
}

const MAGIC: &[u8; 8] = b"TLIDX\x00\x00\x01";
const POINT_BYTES: usize = 20;

pub(crate) fn segment_path(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("{segment:010}.segment"))
}

pub(crate) fn index_path(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("{segment:010}.index"))
}

/// Reads the summary beside a segment, if it is sound and this log's.
pub(crate) fn load(dir: &Path, segment: u32, log_id: u64) -> Option<Summary> {
    let bytes = fs::read(index_path(dir, segment)).ok()?;
    Summary::decode(&bytes, log_id).filter(|summary| summary.segment == segment)
}

/// Writes the summary beside a segment; that it fails costs time at the next start, no more.
pub(crate) fn store(dir: &Path, summary: &Summary, log_id: u64) {
    let path = index_path(dir, summary.segment);
    let temporary = path.with_extension("index.new");
    let written =
        fs::write(&temporary, summary.encode(log_id)).and_then(|()| fs::rename(&temporary, &path));
    if let Err(error) = written {
        tracing::warn!(file = %path.display(), %error, "the index of a segment was not written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(base: u64, position: u32) -> Noted {
        Noted {
            base,
            count: 2,
            bytes: 10,
            position,
            time: i64::from(position),
        }
    }

    #[test]
    fn points_are_sparse_and_a_summary_comes_back() {
        let mut summary = Summary::new(4);
        assert!(summary.note(1, noted(10, 64)).is_some());
        assert!(summary.note(1, noted(12, 1000)).is_none());
        assert!(summary.note(2, noted(0, 1000)).is_some());
        assert!(summary.note(1, noted(14, 64 + POINT_EVERY_BYTES)).is_some());
        summary.end = 99_999;
        let bytes = summary.encode(7);
        assert_eq!(Summary::decode(&bytes, 7), Some(summary));
        assert_eq!(Summary::decode(&bytes, 8), None);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Summary::decode(&damaged, 7), None, "byte {at}");
            assert_eq!(Summary::decode(&bytes[..at], 7), None, "cut at {at}");
        }
    }
}
