//! Reads a segment from its head, batch by batch, and tells where and how it ends.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use trunkline_core::Result;

use crate::error;
use crate::format::{
    ALIGN, BATCH_HEADER_BYTES, BatchHeader, SEGMENT_HEADER_BYTES, SegmentHeader, crc,
};

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// After the last batch there is nothing but zeros, or nothing.
    Clean,
    /// After the last batch there is something that is no batch, and no batch follows it.
    Torn,
    /// Something is no batch, but a batch of this log stands further on, at this byte.
    Corrupt { later: u64 },
}

/// What was found in a segment.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// Where the last good batch ends.
    pub(crate) position: u64,
    /// Bytes of the file.
    pub(crate) file_bytes: u64,
    pub(crate) end: End,
}

/// A batch as it was read.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) header: BatchHeader,
    pub(crate) events: &'a [u8],
    pub(crate) metas: &'a [u8],
}

/// Reads the header of a segment.
pub(crate) fn header(path: &Path) -> Result<SegmentHeader> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    let file = open(path)?;
    if file.read_exact_at(&mut bytes, 0).is_err() {
        return Err(error::corrupt(
            "a segment is shorter than its header",
            path,
            0,
        ));
    }
    SegmentHeader::decode(&bytes)
        .ok_or_else(|| error::corrupt("the header of a segment is damaged", path, 0))
}

pub(crate) fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|e| error::io("a segment can't be read", path, e))
}

/// Calls `visit` for each batch. What `visit` refuses ends the scan with a `Corrupt` error that names
/// the place.
pub(crate) fn scan(
    path: &Path,
    segment: SegmentHeader,
    mut visit: impl FnMut(&Batch<'_>) -> Result<(), &'static str>,
) -> Result<Scanned> {
    let mut window = Window::open(path)?;
    let mut position = SEGMENT_HEADER_BYTES as u64;
    let mut sequence = segment.sequence;
    while let Some(batch) = window.batch(position, &segment)? {
        if batch.header.sequence != sequence {
            break;
        }
        visit(&batch).map_err(|what| error::corrupt(what, path, position))?;
        position += batch.header.frame_bytes();
        sequence += 1;
    }
    let end = window.end(position, &segment, sequence)?;
    Ok(Scanned {
        position,
        file_bytes: window.file_bytes,
        end,
    })
}

/// A part of a file in memory.
struct Window<'a> {
    path: &'a Path,
    file: File,
    file_bytes: u64,
    start: u64,
    buffer: Vec<u8>,
}

const WINDOW_BYTES: usize = 1 << 20;

impl<'a> Window<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let file = open(path)?;
        let metadata = file
            .metadata()
            .map_err(|e| error::io("a segment can't be read", path, e))?;
        Ok(Self {
            path,
            file,
            file_bytes: metadata.len(),
            start: 0,
            buffer: Vec::new(),
        })
    }

    /// The bytes from `at`, or none if the file ends before them. Never more memory than the file is long.
    fn get(&mut self, at: u64, bytes: usize) -> Result<Option<&[u8]>> {
        if at.saturating_add(bytes as u64) > self.file_bytes {
            return Ok(None);
        }
        let held = at >= self.start && at + bytes as u64 <= self.start + self.buffer.len() as u64;
        if !held {
            let rest = usize::try_from(self.file_bytes - at).unwrap_or(usize::MAX);
            self.buffer.resize(bytes.max(WINDOW_BYTES).min(rest), 0);
            self.start = at;
            self.file
                .read_exact_at(&mut self.buffer, at)
                .map_err(|e| error::io("a segment can't be read", self.path, e).with("byte", at))?;
        }
        let from = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        Ok(self.buffer.get(from..from.saturating_add(bytes)))
    }

    /// The batch at a place, or none if there is no sound one.
    fn batch(&mut self, at: u64, segment: &SegmentHeader) -> Result<Option<Batch<'_>>> {
        let Some(bytes) = self.get(at, BATCH_HEADER_BYTES)? else {
            return Ok(None);
        };
        let Some(header) = header_at(bytes, at, segment) else {
            return Ok(None);
        };
        let body_at = at + BATCH_HEADER_BYTES as u64;
        let Some(body) = self.get(body_at, header.body_bytes as usize)? else {
            return Ok(None);
        };
        if crc(segment.log_id, body) != header.body_crc {
            return Ok(None);
        }
        let split = body.split_at_checked(header.events_bytes as usize);
        Ok(split.map(|(events, metas)| Batch {
            header,
            events,
            metas,
        }))
    }

    /// How the file ends, whose batches end at `from`.
    fn end(&mut self, from: u64, segment: &SegmentHeader, sequence: u64) -> Result<End> {
        let mut zeros = true;
        let mut at = from;
        while at < self.file_bytes {
            let bytes = usize::try_from(self.file_bytes - at).unwrap_or(usize::MAX);
            let bytes = bytes.min(WINDOW_BYTES);
            let Some(chunk) = self.get(at, bytes)? else {
                break;
            };
            if chunk.iter().any(|byte| *byte != 0) {
                zeros = false;
                if let Some(later) = later_batch(chunk, at, segment, sequence) {
                    return Ok(End::Corrupt { later });
                }
            }
            if bytes < WINDOW_BYTES {
                break;
            }
            // The next chunk begins early enough to hold a header that this one cuts.
            at += (WINDOW_BYTES - BATCH_HEADER_BYTES) as u64;
        }
        Ok(if zeros { End::Clean } else { End::Torn })
    }
}

/// The place of a batch's header among `bytes`, which stand at `at`. Only the header is judged: its
/// checksum covers the log's id and the place, so that no data passes for one.
fn later_batch(bytes: &[u8], at: u64, segment: &SegmentHeader, sequence: u64) -> Option<u64> {
    (0..bytes.len()).step_by(ALIGN).find_map(|from| {
        let place = at + from as u64;
        let header = header_at(bytes.get(from..from + BATCH_HEADER_BYTES)?, place, segment)?;
        (header.sequence > sequence).then_some(place)
    })
}

fn header_at(bytes: &[u8], at: u64, segment: &SegmentHeader) -> Option<BatchHeader> {
    let header = BatchHeader::decode(bytes, segment.log_id)?;
    (header.segment == segment.segment && u64::from(header.position) == at).then_some(header)
}

/// Reads one batch at a place that the index names, of a segment that is readable up to `end`.
pub(crate) fn read_batch(
    file: &File,
    segment: &SegmentHeader,
    (at, end): (u64, u64),
    body: &mut Vec<u8>,
) -> std::io::Result<Option<BatchHeader>> {
    let mut bytes = [0; BATCH_HEADER_BYTES];
    match file.read_exact_at(&mut bytes, at) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let Some(header) = header_at(&bytes, at, segment) else {
        return Ok(None);
    };
    if at + header.frame_bytes() > end {
        return Ok(None);
    }
    body.resize(header.body_bytes as usize, 0);
    file.read_exact_at(body, at + BATCH_HEADER_BYTES as u64)?;
    Ok((crc(segment.log_id, body) == header.body_crc).then_some(header))
}
