//! Reads events that are not in memory any more. Blocking: call it off the async threads.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use trunkline_core::{Envelope, Result};

use crate::error;
use crate::format::{BatchHeader, Events, SegmentHeader};
use crate::index::{POINT_EVERY_BYTES, Point, segment_path};
use crate::meta::{Meta, Metas};
use crate::partition::Partition;
use crate::scan;

/// The files of the log, for reading.
#[derive(Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    pub(crate) log_id: u64,
    state: Mutex<FilesState>,
}

#[derive(Debug, Default)]
struct FilesState {
    open: BTreeMap<u32, Arc<File>>,
    /// Where the readable part of each segment ends.
    ends: BTreeMap<u32, u64>,
}

/// Files that are kept open.
const OPEN_MAX: usize = 64;
/// Events that are read at once.
const EVENTS_MAX: usize = 512;
/// Bytes of events that are read at once, beyond the first.
const BYTES_MAX: usize = 512 * 1024;
/// Points that are looked at, at once.
const POINTS_MAX: usize = 64;

impl Files {
    pub(crate) fn new(dir: PathBuf, log_id: u64) -> Self {
        Self {
            dir,
            log_id,
            state: Mutex::default(),
        }
    }

    /// A segment is readable up to a place.
    pub(crate) fn set_end(&self, segment: u32, end: u64) {
        self.state.lock().ends.insert(segment, end);
    }

    pub(crate) fn forget(&self, segment: u32) {
        let mut state = self.state.lock();
        state.open.remove(&segment);
        state.ends.remove(&segment);
    }

    /// The file of a segment and where its readable part ends; none if retention dropped it. Whoever has
    /// the file reads it to its end, dropped or not.
    fn segment(&self, segment: u32) -> Result<Option<(Arc<File>, u64)>> {
        let kept = || {
            let state = self.state.lock();
            let end = state.ends.get(&segment).copied()?;
            Some((state.open.get(&segment).cloned(), end))
        };
        match kept() {
            None => return Ok(None),
            Some((Some(file), end)) => return Ok(Some((file, end))),
            Some((None, _)) => {}
        }
        let opened = scan::open(&segment_path(&self.dir, segment));
        let mut state = self.state.lock();
        // It may have been dropped meanwhile: what it held is not kept, which is no error.
        let Some(end) = state.ends.get(&segment).copied() else {
            return Ok(None);
        };
        let file = Arc::new(opened?);
        if state.open.len() >= OPEN_MAX {
            state.open.pop_first();
        }
        state.open.insert(segment, file.clone());
        Ok(Some((file, end)))
    }

    fn corrupt(&self, what: &'static str, point: Point, at: u64) -> trunkline_core::Error {
        error::corrupt(what, &segment_path(&self.dir, point.segment), at)
    }

    /// Calls `visit` for the batches that hold events of a partition at `from` and after.
    pub(crate) fn walk(
        &self,
        partition: &Partition,
        from: u64,
        mut visit: impl FnMut(Found<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut body = Vec::new();
        let mut from = from;
        loop {
            let points = partition.state.lock().points_from(from, POINTS_MAX);
            let before = from;
            let mut dropped = false;
            for (number, point) in points.iter().enumerate() {
                let next = points
                    .get(number + 1)
                    .filter(|next| next.segment == point.segment);
                // A batch further on than this would have a point of its own.
                let stop = next.map_or(point.position + POINT_EVERY_BYTES, |next| next.position);
                let Some((file, readable)) = self.segment(point.segment)? else {
                    dropped = true;
                    continue;
                };
                let stop = u64::from(stop).min(readable);
                let mut at = u64::from(point.position);
                while at < stop {
                    let header = self.batch(&file, *point, (at, readable), &mut body)?;
                    if let Some(found) = find(&header, &body, partition.slot) {
                        let found = found.map_err(|what| self.corrupt(what, *point, at))?;
                        let end = found.base + u64::from(found.count);
                        if end > from {
                            if visit(found)?.is_break() {
                                return Ok(());
                            }
                            from = end;
                        }
                    }
                    at += header.frame_bytes();
                }
            }
            // The points of a segment that was dropped are gone, so that each round comes further.
            let further = from > before || dropped;
            if points.len() < POINTS_MAX || !further {
                return Ok(());
            }
        }
    }

    fn batch(
        &self,
        file: &File,
        point: Point,
        (at, readable): (u64, u64),
        body: &mut Vec<u8>,
    ) -> Result<BatchHeader> {
        let segment = SegmentHeader {
            log_id: self.log_id,
            segment: point.segment,
            sequence: 0,
        };
        let path = || segment_path(&self.dir, point.segment);
        scan::read_batch(file, &segment, (at, readable), body)
            .map_err(|e| error::io("a segment can't be read", &path(), e).with("byte", at))?
            .ok_or_else(|| self.corrupt("a batch is damaged", point, at))
    }
}

/// The events of a partition in a batch.
pub(crate) struct Found<'a> {
    time: i64,
    base: u64,
    count: u32,
    slot: u32,
    events: &'a [u8],
}

fn find<'a>(
    header: &BatchHeader,
    body: &'a [u8],
    wanted: u32,
) -> Option<Result<Found<'a>, &'static str>> {
    let (events, metas) = body.split_at_checked(header.events_bytes as usize)?;
    for meta in Metas::new(metas) {
        match meta {
            Some(Meta::Place { slot, base, count }) if slot == wanted => {
                return Some(Ok(Found {
                    time: header.time,
                    base,
                    count,
                    slot,
                    events,
                }));
            }
            Some(_) => {}
            None => return Some(Err("a meta record is damaged")),
        }
    }
    None
}

/// Reads events of a partition from an offset on: at least one, if that offset is kept.
pub(crate) fn read(
    files: &Files,
    partition: &Partition,
    from: u64,
    single: bool,
) -> Result<VecDeque<Envelope>> {
    let end = partition.state.lock().end;
    let events_max = if single { 1 } else { EVENTS_MAX };
    let mut read = VecDeque::new();
    let mut bytes = 0;
    let mut expected = from;
    files.walk(partition, from, |found| {
        if found.base > expected {
            return Ok(ControlFlow::Break(()));
        }
        let mut offset = found.base;
        for event in Events(found.events) {
            let Some((slot, encoded)) = event else { break };
            if slot != found.slot {
                continue;
            }
            if offset == expected {
                let full = read.len() == events_max || (bytes > BYTES_MAX && !read.is_empty());
                if offset >= end || full {
                    return Ok(ControlFlow::Break(()));
                }
                // A copy, so that who keeps a part of an event does not keep the whole batch.
                read.push_back(Envelope::decode(Bytes::copy_from_slice(encoded))?);
                bytes += encoded.len();
                expected += 1;
            }
            offset += 1;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if read.is_empty() && from < end && partition.state.lock().base <= from {
        let at = partition.state.lock().points_from(from, 1);
        let point = at.first().copied();
        let path = segment_path(&files.dir, point.map_or(0, |point| point.segment));
        let what = "an event is not where its index says";
        let at = point.map_or(0, |point| u64::from(point.position));
        return Err(error::corrupt(what, &path, at).with("offset", from));
    }
    Ok(read)
}

/// The first offset at or after `from` that was written at `time` or after; the end if there is none.
pub(crate) fn search(files: &Files, partition: &Partition, from: u64, time: i64) -> Result<u64> {
    let mut found = partition.state.lock().end;
    files.walk(partition, from, |batch| {
        if batch.time < time {
            return Ok(ControlFlow::Continue(()));
        }
        found = batch.base.max(from);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}
