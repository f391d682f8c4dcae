//! The segment that is written: appending, rolling to the next, and what happens when the disk refuses.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use trunkline_core::{Error, Result, Retry};

use crate::disk::{Disk, DiskFile, sync_dir};
use crate::error;
use crate::format::{
    ALIGN, BATCH_HEADER_BYTES, BatchHeader, SEGMENT_HEADER_BYTES, SegmentHeader, crc,
};
use crate::index::segment_path;
use crate::keeper::Keeper;

/// The smallest segment; they grow while they fill quickly.
const SEGMENT_BYTES_MIN: u64 = 4 << 20;
/// A segment that filled within this many microseconds is followed by one of twice its size.
const QUICK_MICROS: i64 = 10_000_000;
/// A log that fills this many bytes a microsecond (MB/s) is in a hurry, and its next segment is not prepared: each sync
/// carries so much that the metadata it would save costs less than writing everything twice.
const HURRY_BYTES_PER_MICRO: i64 = 32;

#[derive(Debug)]
pub(crate) struct Journal {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    pub(crate) log_id: u64,
    /// None before the first segment, and after a roll that failed half way.
    active: Option<Active>,
    /// The sequence number of the next batch.
    sequence: u64,
    last_time: i64,
    segment_bytes_max: u64,
    /// The size of the next segment.
    segment_bytes: u64,
    /// The last segment filled too quickly for the next to be prepared.
    hurried: bool,
    /// Something was appended since the last sync.
    unsynced: bool,
    /// A sync failed: nothing is known of what was written since.
    poisoned: bool,
    pub(crate) keeper: Keeper,
}

#[derive(Debug)]
struct Active {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    segment: u32,
    /// Where the next batch goes.
    end: u64,
    /// How far the file is prepared with zeros.
    prepared: u64,
    capacity: u64,
    begun: i64,
    /// Bytes beyond the end are not zeros, because a write failed.
    dirty: bool,
}

/// Where a batch was written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) segment: u32,
    pub(crate) position: u32,
    pub(crate) time: i64,
    /// Where it ends.
    pub(crate) end: u64,
}

/// What a journal goes on from.
#[derive(Debug)]
pub(crate) struct Resume {
    pub(crate) log_id: u64,
    pub(crate) active: Option<(u32, u64)>,
    pub(crate) active_bytes: u64,
    pub(crate) sequence: u64,
    pub(crate) last_time: i64,
}

impl Journal {
    pub(crate) fn open(
        dir: PathBuf,
        disk: Arc<dyn Disk>,
        segment_bytes_max: u64,
        resume: &Resume,
    ) -> Result<Self> {
        let active = match resume.active {
            None => None,
            Some((segment, end)) => {
                let path = segment_path(&dir, segment);
                let failed = |e| error::io("a segment can't be opened", &path, e);
                let file = disk.open(&path).map_err(failed)?;
                let prepared = resume.active_bytes;
                let capacity = prepared.max(SEGMENT_BYTES_MIN.min(segment_bytes_max));
                let begun = resume.last_time;
                Some(Active {
                    file,
                    path,
                    segment,
                    end,
                    prepared,
                    capacity,
                    begun,
                    dirty: false,
                })
            }
        };
        let mut keeper = Keeper::start(dir.clone(), disk.clone())?;
        let segment_bytes = SEGMENT_BYTES_MIN.min(segment_bytes_max);
        if active.is_some() {
            keeper.prepare(segment_bytes);
        }
        Ok(Self {
            keeper,
            dir,
            disk,
            log_id: resume.log_id,
            active,
            sequence: resume.sequence,
            last_time: resume.last_time,
            segment_bytes_max,
            segment_bytes,
            hurried: false,
            unsynced: false,
            poisoned: false,
        })
    }

    /// The segment that is written and where its last batch ends.
    pub(crate) fn end(&self) -> Option<(u32, u64)> {
        self.active
            .as_ref()
            .map(|active| (active.segment, active.end))
    }

    /// Whether a batch of so many bytes needs a new segment first.
    pub(crate) fn is_full(&self, frame_bytes: u64) -> bool {
        match &self.active {
            None => true,
            Some(active) => {
                let empty = active.end == SEGMENT_HEADER_BYTES as u64;
                !empty && active.end + frame_bytes > active.capacity
            }
        }
    }

    /// The number that the next segment gets.
    pub(crate) fn next_segment(&self) -> u32 {
        self.active
            .as_ref()
            .map_or(1, |active| active.segment.saturating_add(1))
    }

    /// Writes a batch: `frame` is room for its header, then its body. Not synced.
    ///
    /// # Errors
    /// Nothing of it stays: a publish that fails so may be tried again.
    pub(crate) fn append(
        &mut self,
        frame: &mut Vec<u8>,
        events_bytes: usize,
        now: i64,
    ) -> Result<Written> {
        if self.poisoned {
            return Err(error::poisoned());
        }
        let (time, sequence, log_id) = (now.max(self.last_time), self.sequence, self.log_id);
        let Some(active) = self.active.as_mut() else {
            return Err(error::poisoned());
        };
        active.clear()?;
        let position = u32::try_from(active.end).map_err(|_| error::too_large())?;
        let place = Place {
            segment: active.segment,
            position,
            sequence,
            time,
        };
        seal_frame(frame, events_bytes, place, log_id)?;
        if let Err(failure) = active.file.write_all_at(frame, active.end) {
            active.dirty = true;
            let failure = error::io("the log can't be written", &active.path, failure);
            // If this can't be undone now, it is before the next batch.
            active.clear()?;
            return Err(failure.with_retry(Retry::Transient));
        }
        active.end += frame.len() as u64;
        self.unsynced = true;
        self.sequence += 1;
        self.last_time = time;
        Ok(Written {
            segment: active.segment,
            position,
            time,
            end: active.end,
        })
    }

    /// Makes all that was appended durable.
    ///
    /// # Errors
    /// The first failure ends all writing until the log is opened again: what the system did with the
    /// bytes is not known, and a second sync that succeeds proves nothing.
    pub(crate) fn sync(&mut self) -> Result<()> {
        if self.poisoned {
            return Err(error::poisoned());
        }
        let Some(active) = self.active.as_ref().filter(|_| self.unsynced) else {
            return Ok(());
        };
        self.unsynced = false;
        active.file.sync().map_err(|failure| {
            self.poisoned = true;
            let message =
                "the log could not be synced and takes nothing more until it is opened again";
            Error::unavailable("log_poisoned", message)
                .with_retry(Retry::Unknown)
                .with("file", active.path.display())
                .with_source(failure)
        })
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Begins the next segment with `snapshot` as its first batch. What was written before is made
    /// durable first; if anything fails the log stays where it was.
    #[expect(
        clippy::too_many_lines,
        reason = "one order of writes and syncs, read best in one piece"
    )]
    pub(crate) fn roll(&mut self, snapshot: &mut Vec<u8>, now: i64) -> Result<Written> {
        self.sync()?;
        let segment = self.next_segment();
        let time = now.max(self.last_time);
        self.adapt(time);
        let path = segment_path(&self.dir, segment);
        let failed =
            |e| error::io("a segment can't be made", &path, e).with_retry(Retry::Transient);
        if self.active.is_none() {
            self.keeper.prepare_now(self.segment_bytes);
        }
        let (temporary, prepared) = match self.keeper.prepared(self.segment_bytes) {
            Some((temporary, prepared)) => (temporary, prepared),
            None => (path.with_extension("new"), 0),
        };
        let file = if prepared > 0 {
            self.disk.open(&temporary)
        } else {
            self.disk.create(&temporary)
        };
        let file = file.map_err(failed)?;
        let header = SegmentHeader {
            log_id: self.log_id,
            segment,
            sequence: self.sequence,
        };
        let position = u32::try_from(SEGMENT_HEADER_BYTES).unwrap_or(0);
        let place = Place {
            segment,
            position,
            sequence: self.sequence,
            time,
        };
        seal_frame(snapshot, 0, place, self.log_id)?;
        let made = file
            .write_all_at(&header.encode(), 0)
            .and_then(|()| file.write_all_at(snapshot, u64::from(position)))
            .and_then(|()| file.sync())
            .and_then(|()| self.disk.rename(&temporary, &path));
        if let Err(failure) = made {
            self.undo_roll(&temporary, &path);
            return Err(failed(failure));
        }
        if let Some(old) = self.active.take() {
            // What was prepared and not used is given back; a failure costs only space.
            if old.prepared > old.end
                && let Err(error) = old.file.set_len(old.end)
            {
                tracing::debug!(file = %old.path.display(), %error, "a segment was not trimmed");
            }
        }
        let end = u64::from(position) + snapshot.len() as u64;
        let capacity = if prepared > 0 {
            prepared
        } else {
            self.segment_bytes
        };
        let begun = time;
        self.active = Some(Active {
            file,
            path,
            segment,
            end,
            prepared,
            capacity,
            begun,
            dirty: false,
        });
        self.sequence += 1;
        self.last_time = time;
        if !self.hurried {
            self.keeper.prepare(self.segment_bytes);
        }
        Ok(Written {
            segment,
            position,
            time,
            end,
        })
    }

    /// A segment that was not made may not be there at the next start, where it would end the one
    /// before it.
    fn undo_roll(&mut self, temporary: &Path, path: &Path) {
        self.keeper.discard(temporary.to_owned());
        let gone = match std::fs::remove_file(path) {
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
            Ok(()) => sync_dir(&self.dir).is_ok(),
        };
        self.poisoned |= !gone;
    }

    /// Segments grow while they fill quickly, so that a quiet log stays small.
    fn adapt(&mut self, now: i64) {
        let Some(active) = &self.active else { return };
        let took = now.saturating_sub(active.begun).max(1);
        self.hurried =
            i64::try_from(active.end).unwrap_or(i64::MAX) / took >= HURRY_BYTES_PER_MICRO;
        if took < QUICK_MICROS {
            self.segment_bytes = (self.segment_bytes * 2).min(self.segment_bytes_max);
        } else {
            let least = SEGMENT_BYTES_MIN.min(self.segment_bytes_max);
            self.segment_bytes = (self.segment_bytes / 2).max(least);
        }
    }
}

impl Active {
    /// Cuts off what a failed write may have left.
    fn clear(&mut self) -> Result<()> {
        if self.dirty {
            let failed = |e| error::io("a failed write can't be undone", &self.path, e);
            self.file
                .set_len(self.end)
                .map_err(failed)
                .map_err(|e| e.with_retry(Retry::Transient))?;
            self.prepared = self.end;
            self.dirty = false;
        }
        Ok(())
    }
}

struct Place {
    segment: u32,
    position: u32,
    sequence: u64,
    time: i64,
}

/// Pads the body and fills in the header.
fn seal_frame(frame: &mut Vec<u8>, events_bytes: usize, place: Place, log_id: u64) -> Result<()> {
    frame.resize(frame.len().next_multiple_of(ALIGN), 0);
    let Some((head, body)) = frame.split_first_chunk_mut::<BATCH_HEADER_BYTES>() else {
        return Err(error::too_large());
    };
    let Place {
        segment,
        position,
        sequence,
        time,
    } = place;
    let header = BatchHeader {
        segment,
        position,
        sequence,
        time,
        body_bytes: u32::try_from(body.len()).map_err(|_| error::too_large())?,
        events_bytes: u32::try_from(events_bytes).map_err(|_| error::too_large())?,
        body_crc: crc(log_id, body),
    };
    *head = header.encode(log_id);
    Ok(())
}
