//! Opens what is on the disk: finds the end, checks what can be checked, builds the indexes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use trunkline_core::{Error, Result};

use crate::catalog::Catalog;
use crate::config::{LogConfig, Repair};
use crate::disk::sync_dir;
use crate::error;
use crate::format::{BatchHeader, Events, SegmentHeader};
use crate::index::{self, Noted, Summary, segment_path};
use crate::meta::{Meta, Metas};
use crate::scan::{self, Batch, End};

mod quarantine;
mod seal;
#[cfg(test)]
mod tests;

pub(crate) use self::seal::write_seal;

/// What was found when the log was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Segment files that were there.
    pub segments: usize,
    /// Those that had to be read whole, for want of a sound index.
    pub segments_read: usize,
    /// Bytes of a batch that was being written when the process died, cut off the end. It was never
    /// acknowledged.
    pub torn_bytes: u64,
    /// What a repair moved out of the way, as `file at byte`; events of it are lost.
    pub quarantined: Vec<String>,
}

/// What is on the disk.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) log_id: u64,
    pub(crate) catalog: Catalog,
    /// The segment to go on in, and where.
    pub(crate) active: Option<(u32, u64)>,
    /// Bytes of that file: beyond the end they are zeros.
    pub(crate) active_bytes: u64,
    /// The sequence number of the next batch.
    pub(crate) sequence: u64,
    pub(crate) last_time: i64,
    /// Of all segments, the active one too.
    pub(crate) summaries: BTreeMap<u32, Summary>,
    pub(crate) recovery: Recovery,
    /// Segments that a repair moved out of the way whole.
    pub(crate) given_up: Vec<u32>,
}

/// Reads the folder.
pub(crate) fn recover(config: &LogConfig, new_id: u64) -> Result<Found> {
    let mut work = Work {
        config,
        found: nothing(new_id),
    };
    let mut segments = work.list()?;
    work.found.recovery.segments = segments.len();
    let Some(last) = segments.pop() else {
        seal::check(config, &work.found)?;
        return Ok(work.found);
    };
    let header = work.header(last)?;
    work.found.log_id = header.log_id;
    if index::load(&config.dir, last, header.log_id).is_some() {
        // It was written when the next segment had begun.
        let missing = segment_path(&config.dir, last.saturating_add(1));
        if config.repair == Repair::Refuse {
            let what = "a segment is missing at the end";
            return Err(error::corrupt(what, &missing, 0));
        }
        remove_file(&index::index_path(&config.dir, last));
        let gone = format!("{} is missing", missing.display());
        work.found.recovery.quarantined.push(gone);
    }
    let scanned = work.read_last(header)?;
    work.found.active = Some((last, scanned));
    seal::check(config, &work.found)?;
    work.check_live(&segments, last)?;
    for segment in segments {
        if work.found.catalog.live.contains(&segment) {
            work.read_sealed(segment)?;
        } else {
            work.remove(segment);
        }
    }
    work.check_offsets()?;
    Ok(work.found)
}

fn nothing(log_id: u64) -> Found {
    Found {
        log_id,
        catalog: Catalog::default(),
        active: None,
        active_bytes: 0,
        sequence: 0,
        last_time: i64::MIN,
        summaries: BTreeMap::new(),
        recovery: Recovery::default(),
        given_up: Vec::new(),
    }
}

struct Work<'a> {
    config: &'a LogConfig,
    found: Found,
}

impl Work<'_> {
    fn path(&self, segment: u32) -> PathBuf {
        segment_path(&self.config.dir, segment)
    }

    /// The numbers of the segments, rising. Files that were being made are removed.
    fn list(&self) -> Result<Vec<u32>> {
        let dir = &self.config.dir;
        let failed = |e| error::io("the folder of the log can't be read", dir, e);
        let mut segments = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(number) = name.strip_suffix(".segment") {
                segments.extend(
                    number
                        .parse::<u32>()
                        .ok()
                        .filter(|n| self.path(*n) == dir.join(name)),
                );
            } else if name.ends_with(".new") {
                remove_file(&dir.join(name));
            }
        }
        segments.sort_unstable();
        Ok(segments)
    }

    fn header(&self, segment: u32) -> Result<SegmentHeader> {
        let path = self.path(segment);
        let header = scan::header(&path)?;
        if header.segment != segment {
            return Err(error::corrupt(
                "the file is another segment than its name says",
                &path,
                0,
            ));
        }
        Ok(header)
    }

    /// Reads the segment that was written last; returns where it ends.
    fn read_last(&mut self, header: SegmentHeader) -> Result<u64> {
        let path = self.path(header.segment);
        let mut summary = Summary::new(header.segment);
        let mut sequence = header.sequence;
        let found = &mut self.found;
        let scanned = scan::scan(&path, header, |batch| {
            for meta in Metas::new(batch.metas) {
                found
                    .catalog
                    .apply(&meta.ok_or("a meta record is damaged")?)?;
            }
            note(&mut summary, batch)?;
            sequence = batch.header.sequence + 1;
            found.last_time = found.last_time.max(batch.header.time);
            Ok(())
        })?;
        if sequence == header.sequence {
            return Err(error::corrupt(
                "the head of the last segment is damaged",
                &path,
                scanned.position,
            ));
        }
        found.sequence = sequence;
        found.active_bytes = scanned.file_bytes;
        match scanned.end {
            End::Clean => {}
            End::Torn => {
                found.recovery.torn_bytes = scanned.file_bytes - scanned.position;
                found.active_bytes = scanned.position;
                cut(&path, scanned.position)?;
            }
            End::Corrupt { later } => {
                self.give_up_rest(&path, scanned.position, later)?;
                self.found.active_bytes = scanned.position;
            }
        }
        summary.end = scanned.position;
        self.found.summaries.insert(header.segment, summary);
        Ok(scanned.position)
    }

    /// Takes in a segment before the last: from its index if that is sound, else by reading it.
    fn read_sealed(&mut self, segment: u32) -> Result<()> {
        let dir = self.config.dir.clone();
        let path = self.path(segment);
        let header = match self.header(segment) {
            Ok(header) if header.log_id == self.found.log_id => header,
            Ok(_) => {
                let error = error::corrupt("the segment is another log's", &path, 0);
                return self.give_up_segment(segment, error);
            }
            Err(error) => return self.give_up_segment(segment, error),
        };
        if self.config.repair == Repair::Refuse
            && !self.config.verify_on_open
            && let Some(summary) = index::load(&dir, segment, header.log_id)
        {
            let file_bytes = fs::metadata(&path)
                .map_err(|e| error::io("a segment can't be read", &path, e))?
                .len();
            if file_bytes < summary.end {
                return Err(error::corrupt("a segment was cut short", &path, file_bytes));
            }
            self.found.summaries.insert(segment, summary);
            return Ok(());
        }
        let mut summary = Summary::new(segment);
        let slots = self.found.catalog.next_slot();
        let scanned = scan::scan(&path, header, |batch| {
            note(&mut summary, batch)?;
            let known = summary
                .slots
                .last_key_value()
                .is_none_or(|(slot, _)| *slot < slots);
            known.then_some(()).ok_or("events of an unknown partition")
        })?;
        self.found.recovery.segments_read += 1;
        let whole = scanned.end == End::Clean && scanned.position > SEGMENT_HEADER_BYTES;
        if !whole {
            let later = match scanned.end {
                End::Corrupt { later } => later,
                _ => scanned.file_bytes,
            };
            self.give_up_rest(&path, scanned.position, later)?;
        }
        summary.end = scanned.position;
        index::store(&dir, &summary, header.log_id);
        self.found.summaries.insert(segment, summary);
        Ok(())
    }

    /// Every segment that the journal names must be there.
    fn check_live(&mut self, segments: &[u32], last: u32) -> Result<()> {
        let catalog = &mut self.found.catalog;
        let missing: Vec<u32> = catalog
            .live
            .iter()
            .filter(|segment| **segment != last && segments.binary_search(segment).is_err())
            .copied()
            .collect();
        for segment in missing {
            let path = segment_path(&self.config.dir, segment);
            let error = error::corrupt("a segment is missing", &path, 0);
            self.give_up_segment(segment, error)?;
        }
        Ok(())
    }

    /// The offsets of each slot must follow one another through all segments.
    fn check_offsets(&mut self) -> Result<()> {
        let mut next: BTreeMap<u32, u64> = BTreeMap::new();
        let mut holes = Vec::new();
        for (segment, summary) in &self.found.summaries {
            for (slot, here) in &summary.slots {
                let base = self.found.catalog.slot(*slot).map_or(0, |entry| entry.base);
                let expected = next.insert(*slot, here.end).unwrap_or(base).max(base);
                if here.first > expected {
                    let hole = (*slot, expected, here.first);
                    holes.push((
                        hole,
                        *segment,
                        here.points.first().map_or(0, |point| point.1),
                    ));
                }
            }
        }
        for (slot, entry) in (0..).zip(&self.found.catalog.slots) {
            let end = next
                .get(&slot)
                .copied()
                .unwrap_or(entry.base)
                .max(entry.base);
            if end < entry.next {
                let (segment, _) = self.found.active.unwrap_or_default();
                holes.push(((slot, end, entry.next), segment, 0));
            }
        }
        for ((slot, from, to), segment, at) in holes {
            let known = self
                .found
                .catalog
                .holes
                .iter()
                .any(|(s, f, t)| *s == slot && *f <= from && to <= *t);
            if known {
                continue;
            }
            if self.config.repair == Repair::Refuse {
                let what = "events of a partition are missing before this place";
                let error = error::corrupt(what, &self.path(segment), u64::from(at));
                return Err(error.with("offset", from));
            }
            self.found.catalog.holes.insert((slot, from, to));
        }
        Ok(())
    }

    /// A retired segment whose file is still there.
    fn remove(&self, segment: u32) {
        remove_file(&self.path(segment));
        remove_file(&index::index_path(&self.config.dir, segment));
    }
}

const SEGMENT_HEADER_BYTES: u64 = crate::format::SEGMENT_HEADER_BYTES as u64;

/// Notes the events of a batch; they must be as many as its places say.
fn note(summary: &mut Summary, batch: &Batch<'_>) -> Result<(), &'static str> {
    let mut seen: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
    for event in Events(batch.events) {
        let (slot, bytes) = event.ok_or("the events of a batch are damaged")?;
        let (count, sum) = seen.entry(slot).or_default();
        *count += 1;
        *sum += bytes.len() as u64;
    }
    let mut places = 0;
    for meta in Metas::new(batch.metas) {
        let Meta::Place { slot, base, count } = meta.ok_or("a meta record is damaged")? else {
            continue;
        };
        places += 1;
        let Some((seen, bytes)) = seen.get(&slot) else {
            return Err("a batch names events that it does not hold");
        };
        if *seen != count {
            return Err("a batch holds another number of events than it names");
        }
        let BatchHeader { position, time, .. } = batch.header;
        summary.note(
            slot,
            Noted {
                base,
                count,
                bytes: *bytes,
                position,
                time,
            },
        );
    }
    if places != seen.len() {
        return Err("a batch holds events that it does not name");
    }
    Ok(())
}

/// Cuts a file and makes that durable.
fn cut(path: &Path, at: u64) -> Result<()> {
    let failed = |e| error::io("the torn end of the log can't be cut", path, e);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(failed)?;
    file.set_len(at)
        .and_then(|()| file.sync_all())
        .map_err(failed)
}

fn remove_file(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(file = %path.display(), %error, "a file of the log can't be removed");
    }
}

/// Makes the folder if it is missing.
pub(crate) fn make_dir(dir: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    let failed = |e| error::io("the folder of the log can't be made", dir, e);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed)?;
    sync_dir(dir).map_err(|e| error::io("the folder of the log can't be synced", dir, e))
}
