//! The writer: one thread that groups what has come, writes it, syncs once, and tells everybody.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use trunkline_core::{Envelope, Error, Result};

use crate::catalog::{Catalog, Slot};
use crate::config::Durability;
use crate::error;
use crate::format::BATCH_HEADER_BYTES;
use crate::group::Group;
use crate::index::{Noted, Summary};
use crate::journal::{Journal, Written};
use crate::meta::Meta;
use crate::shared::{Chunk, Control, Done, Shared};

mod control;
mod retain;

pub(crate) use self::control::build_directory;

/// After a failure positions wait so long before they are tried again without an append.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) catalog: Catalog,
    pub(crate) journal: Journal,
    pub(crate) summaries: BTreeMap<u32, Summary>,
    pub(crate) lock: std::fs::File,
    pub(crate) schedule: Schedule,
    pub(crate) tail: Tail,
    /// The segments that a repair moved out of the way when the log was opened, if it did anything.
    pub(crate) repaired: Option<Vec<u32>>,
    /// Topics were declared that are not visible yet.
    pub(crate) topics_changed: bool,
    /// The frame that is being made; kept for its memory.
    pub(crate) frame: Vec<u8>,
}

/// When there is something to do without being asked.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    positions: Option<Instant>,
    sync: Option<Instant>,
    retention: Option<Instant>,
}

/// What is in memory, oldest first, over all partitions.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    runs: VecDeque<(Slot, usize, usize)>,
    bytes: usize,
}

/// What the writer took to do at once.
#[derive(Debug, Default)]
struct Work {
    chunks: Vec<Chunk>,
    controls: Vec<(Control, Done)>,
    closing: bool,
}

impl Schedule {
    /// Retention is looked at when the log is opened.
    pub(crate) fn at_start() -> Self {
        Self {
            retention: Some(Instant::now()),
            ..Self::default()
        }
    }
}

impl Writer {
    /// Works until it is asked to end.
    pub(crate) fn run(mut self) {
        loop {
            let work = self.wait();
            let closing = work.closing;
            self.work(work);
            if closing {
                break;
            }
        }
        if let Err(error) = self.finish() {
            *self.shared.failure.lock() = Some(error);
        }
    }

    /// Makes the first segment, and notes holes that a repair left, before anything else.
    pub(crate) fn begin(&mut self) -> Result<()> {
        if self.journal.end().is_none() {
            self.roll()?;
        }
        if let Some(segments) = self.repaired.take() {
            let gone = segments
                .into_iter()
                .map(|segment| Meta::Retired { segment });
            let holes = self.catalog.holes.iter();
            let holes = holes.map(|(slot, from, to)| Meta::Hole {
                slot: *slot,
                from: *from,
                to: *to,
            });
            let metas: Vec<Meta> = gone.chain(holes).collect();
            self.record(&metas)?;
        }
        self.journal.sync()
    }

    fn wait(&mut self) -> Work {
        let shared = self.shared.clone();
        let mut pending = shared.pending.lock();
        loop {
            let asked = !pending.chunks.is_empty() || !pending.controls.is_empty();
            if asked || pending.closing {
                break;
            }
            let schedule = &mut self.schedule;
            let now = Instant::now();
            if schedule.positions.is_none() && shared.is_dirty() {
                schedule.positions = Some(now + shared.config.position_delay);
            }
            let due = [schedule.positions, schedule.sync, schedule.retention]
                .into_iter()
                .flatten();
            let due = due.min();
            if due.is_some_and(|due| due <= now) {
                break;
            }
            let unplanned = schedule.positions.is_none();
            shared.wait(&mut pending, due, || unplanned && shared.is_dirty());
        }
        let work = Work {
            chunks: std::mem::take(&mut pending.chunks),
            controls: std::mem::take(&mut pending.controls),
            closing: pending.closing,
        };
        pending.bytes = 0;
        drop(pending);
        if !work.chunks.is_empty() {
            shared.made_room();
        }
        work
    }

    fn work(&mut self, work: Work) {
        let mut dones = Vec::new();
        for (control, done) in work.controls {
            match self.control(control) {
                Ok(changed) => {
                    self.topics_changed |= changed;
                    dones.push(done);
                }
                Err(error) => answer(done, Err(error)),
            }
        }
        let positions = self.shared.take_dirty();
        self.schedule.positions = None;
        let written = self.write(&work.chunks, &positions);
        let synced = match written {
            Ok(written) => self.sync_if_due(work.closing).map(|()| written),
            Err(error) => Err(error),
        };
        match synced {
            Ok(written) => {
                if std::mem::take(&mut self.topics_changed) {
                    self.publish_directory();
                }
                self.arrive(work.chunks, written);
                dones.into_iter().for_each(|done| answer(done, Ok(())));
            }
            Err(error) => {
                self.unwritten(positions);
                let chunks = work.chunks.into_iter().map(|chunk| chunk.done);
                chunks
                    .chain(dones)
                    .for_each(|done| answer(done, Err(error::again(&error))));
            }
        }
        self.retain_if_due();
    }

    /// Writes events and positions as one batch, if there are any.
    fn write(
        &mut self,
        chunks: &[Chunk],
        positions: &[(Arc<Group>, usize)],
    ) -> Result<Option<Written>> {
        let mut metas = Vec::new();
        for chunk in chunks {
            count_places(&mut metas, &chunk.events, &self.catalog);
        }
        for (group, cursor) in positions {
            let Some((id, _)) = &group.durable else {
                continue;
            };
            if let Some((slot, offset)) = group.clean(*cursor)
                && self.catalog.positions.get(&(*id, slot)) != Some(&offset)
                && self.catalog.groups.contains_key(id)
            {
                metas.push(Meta::Position {
                    group: *id,
                    slot,
                    offset,
                });
            }
        }
        if metas.is_empty() {
            return Ok(None);
        }
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        frame.resize(BATCH_HEADER_BYTES, 0);
        for chunk in chunks {
            frame.extend_from_slice(&chunk.bytes);
        }
        let result = self.append(&mut frame, &metas);
        self.frame = frame;
        result.map(Some)
    }

    /// Appends a batch whose events are in `frame` already, and takes its records in.
    pub(crate) fn append(&mut self, frame: &mut Vec<u8>, metas: &[Meta]) -> Result<Written> {
        let events_bytes = frame.len() - BATCH_HEADER_BYTES;
        for meta in metas {
            meta.encode(frame);
        }
        if self.journal.is_full(frame.len() as u64) {
            self.roll()?;
        }
        let now = self.shared.env.now().as_microsecond();
        let written = self.journal.append(frame, events_bytes, now)?;
        for meta in metas {
            self.apply(meta);
        }
        self.schedule.sync = match (self.shared.config.durability, self.schedule.sync) {
            (Durability::Interval(every), None) => Some(Instant::now() + every),
            (_, due) => due,
        };
        Ok(written)
    }

    pub(crate) fn apply(&mut self, meta: &Meta) {
        let applied = self.catalog.apply(meta);
        assert!(
            applied.is_ok(),
            "the writer made a record that is not sound: {meta:?}: {applied:?}"
        );
    }

    /// Begins the next segment, whose head holds all that the ones before say of the log itself.
    fn roll(&mut self) -> Result<()> {
        let before = self.journal.end();
        let segment = self.journal.next_segment();
        self.catalog.live.insert(segment);
        let mut snapshot = vec![0; BATCH_HEADER_BYTES];
        self.catalog.snapshot(&mut snapshot);
        let now = self.shared.env.now().as_microsecond();
        let written = self.journal.roll(&mut snapshot, now).inspect_err(|_| {
            self.catalog.live.remove(&segment);
        })?;
        if let Some((sealed, end)) = before {
            let summary = self
                .summaries
                .entry(sealed)
                .or_insert_with(|| Summary::new(sealed));
            summary.end = end;
            self.journal
                .keeper
                .store(summary.clone(), self.journal.log_id);
        }
        self.summaries.insert(segment, Summary::new(segment));
        self.shared.files.set_end(segment, written.end);
        self.schedule.retention = Some(Instant::now());
        Ok(())
    }

    fn sync_if_due(&mut self, closing: bool) -> Result<()> {
        let due = match self.shared.config.durability {
            Durability::Always => true,
            Durability::Interval(_) => self.schedule.sync.is_some_and(|due| due <= Instant::now()),
            Durability::Os => false,
        };
        if !due && !closing {
            return Ok(());
        }
        self.schedule.sync = None;
        self.journal.sync().inspect_err(|error| {
            tracing::error!(error = %trunkline_core::report(error), "the log takes nothing more");
            self.shared.poison();
        })
    }

    /// Makes events visible that are as durable as they are to be, and tells who waits for them.
    fn arrive(&mut self, chunks: Vec<Chunk>, written: Option<Written>) {
        let Some(written) = written else { return };
        self.shared.files.set_end(written.segment, written.end);
        let directory = self.shared.directory.read().clone();
        let mut touched: Vec<(Slot, Noted)> = Vec::new();
        let mut dones = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let mut events = chunk.events.into_iter().peekable();
            while let Some((slot, bytes, envelope)) = events.next() {
                let Some(partition) = directory.partitions.get(slot as usize) else {
                    continue;
                };
                let mut state = partition.state.lock();
                let place = place_of(&mut touched, slot, state.end, written);
                let mut size = (u64::from(bytes), 1);
                state.extend(std::iter::once(envelope));
                while let Some((_, bytes, envelope)) = events.next_if(|(next, ..)| *next == slot) {
                    size = (size.0 + u64::from(bytes), size.1 + 1);
                    state.extend(std::iter::once(envelope));
                }
                place.bytes += size.0;
                place.count += size.1;
                self.tail.push(slot, size);
            }
            self.shared.give_buffer(chunk.bytes);
            dones.push(chunk.done);
        }
        let mut wake = Vec::new();
        let summary = self.summaries.entry(written.segment).or_default();
        for (slot, place) in touched {
            let Some(partition) = directory.partitions.get(slot as usize) else {
                continue;
            };
            let point = summary.note(slot, place);
            let watchers = {
                let mut state = partition.state.lock();
                point.into_iter().for_each(|point| state.add_point(point));
                state.watchers.clone()
            };
            for (group, cursor) in watchers {
                if let Some(member) = group.arrived(cursor)
                    && !wake.iter().any(|other| Arc::ptr_eq(other, &member))
                {
                    wake.push(member);
                }
            }
        }
        wake.into_iter().for_each(|member| member.notify_one());
        dones.into_iter().for_each(|done| answer(done, Ok(())));
        let old = self.tail.trim(&self.shared, &directory.partitions);
        self.journal.keeper.forget(old);
    }

    /// Positions that were not written are written later.
    fn unwritten(&mut self, positions: Vec<(Arc<Group>, usize)>) {
        for (group, cursor) in positions {
            if group.soil(cursor) {
                self.shared.soil_quietly(group, cursor);
            }
        }
        self.schedule.positions = Some(Instant::now() + PAUSE_AFTER_FAILURE);
    }

    /// The last sync, and the note that all is well.
    fn finish(&mut self) -> Result<()> {
        self.journal.sync()?;
        match self.journal.end() {
            Some((segment, end)) => crate::recovery::write_seal(
                &self.shared.config.dir,
                self.journal.log_id,
                segment,
                end,
            ),
            None => Ok(()),
        }
    }
}

impl Drop for Writer {
    /// However the writer ended, nobody waits for it in vain.
    fn drop(&mut self) {
        // The folder may be another's as soon as the lock is given back.
        self.journal.keeper.stop();
        if let Err(error) = self.lock.unlock() {
            tracing::debug!(%error, "the lock of the log was not given back");
        }
        self.shared.ended();
    }
}

impl Tail {
    fn push(&mut self, slot: Slot, (bytes, events): (u64, u32)) {
        let events = events as usize;
        let held = usize::try_from(bytes).unwrap_or(usize::MAX);
        let held = held.saturating_add(events * size_of::<Envelope>());
        self.bytes = self.bytes.saturating_add(held);
        match self.runs.back_mut() {
            Some((last, count, sum)) if *last == slot && *count < RUN_MAX => {
                *count += events;
                *sum += held;
            }
            _ => self.runs.push_back((slot, events, held)),
        }
    }

    /// Takes out of memory what is too much.
    fn trim(
        &mut self,
        shared: &Shared,
        partitions: &[Arc<crate::partition::Partition>],
    ) -> Vec<Envelope> {
        let mut old = Vec::new();
        while self.bytes > shared.config.tail_bytes_max {
            let Some((slot, count, bytes)) = self.runs.pop_front() else {
                break;
            };
            self.bytes -= bytes;
            if let Some(partition) = partitions.get(slot as usize) {
                partition.state.lock().evict(count, &mut old);
            }
        }
        old
    }
}

/// Events that leave the memory together.
const RUN_MAX: usize = 256;

/// Adds to the places of a batch those of a chunk.
fn count_places(metas: &mut Vec<Meta>, events: &[(Slot, u32, Envelope)], catalog: &Catalog) {
    let mut last = 0;
    for (wanted, ..) in events {
        let is_it = |meta: &Meta| matches!(meta, Meta::Place { slot, .. } if slot == wanted);
        if !metas.get(last).is_some_and(is_it) {
            last = metas.iter().position(is_it).unwrap_or_else(|| {
                let base = catalog.slot(*wanted).map_or(0, |entry| entry.next);
                metas.push(Meta::Place {
                    slot: *wanted,
                    base,
                    count: 0,
                });
                metas.len() - 1
            });
        }
        if let Some(Meta::Place { count, .. }) = metas.get_mut(last) {
            *count += 1;
        }
    }
}

fn place_of(
    touched: &mut Vec<(Slot, Noted)>,
    slot: Slot,
    end: u64,
    written: Written,
) -> &mut Noted {
    let known = touched.iter().position(|(other, _)| *other == slot);
    let index = known.unwrap_or_else(|| {
        let Written { position, time, .. } = written;
        touched.push((
            slot,
            Noted {
                base: end,
                count: 0,
                bytes: 0,
                position,
                time,
            },
        ));
        touched.len() - 1
    });
    #[expect(clippy::indexing_slicing, reason = "it was found or pushed just above")]
    &mut touched[index].1
}

/// Whoever asked may have stopped waiting.
fn answer(done: Done, result: Result<(), Error>) {
    drop(done.send(result));
}
