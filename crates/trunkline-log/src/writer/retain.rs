//! Retention: segments go when everything in them may go.
//!
//! What a durable group has not done is never dropped; [`Log::forget_group`](crate::Log::forget_group)
//! lets go of a group that will not come back. The head of each segment repeats topics, groups and
//! positions, so that no segment is needed for what it says of the log itself.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Writer;
use crate::catalog::Slot;
use crate::index::{SlotSummary, Summary, index_path, segment_path};
use crate::meta::Meta;

/// No more often than this is the age of segments looked at between two rolls.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(3600);

impl Writer {
    /// Drops what may go, if it is time to look.
    pub(super) fn retain_if_due(&mut self) {
        if self
            .schedule
            .retention
            .is_none_or(|due| due > Instant::now())
        {
            return;
        }
        self.schedule.retention = None;
        if self.journal.is_poisoned() {
            return;
        }
        let now = self.shared.env.now().as_microsecond();
        let (expired, next) = self.expired(now);
        if !expired.is_empty()
            && let Err(error) = self.retire(&expired)
        {
            tracing::warn!(error = %trunkline_core::report(&error), "old segments were not dropped");
        }
        self.schedule.retention = next.map(|micros| {
            let wait = Duration::from_micros(u64::try_from(micros - now).unwrap_or(0));
            Instant::now() + wait.clamp(PAUSE_MIN, PAUSE_MAX)
        });
    }

    /// The sealed segments that may go, and when the next may.
    fn expired(&self, now: i64) -> (Vec<u32>, Option<i64>) {
        let active = self.journal.end().map(|(segment, _)| segment);
        let mut later = self.bytes_by_topic();
        let (mut expired, mut next) = (Vec::new(), None);
        for (segment, summary) in &self.summaries {
            if Some(*segment) == active {
                continue;
            }
            self.without(summary, &mut later);
            match self.expiry(summary, &later) {
                Some(at) if at <= now => expired.push(*segment),
                Some(at) => next = Some(next.map_or(at, |known: i64| known.min(at))),
                None => {}
            }
        }
        (expired, next)
    }

    fn bytes_by_topic(&self) -> BTreeMap<u32, u64> {
        let mut bytes = BTreeMap::new();
        for (slot, here) in self.summaries.values().flat_map(|summary| &summary.slots) {
            if let Some(entry) = self.catalog.slot(*slot) {
                *bytes.entry(entry.topic).or_default() += here.bytes;
            }
        }
        bytes
    }

    fn without(&self, summary: &Summary, later: &mut BTreeMap<u32, u64>) {
        for (slot, here) in &summary.slots {
            if let Some(bytes) = self
                .catalog
                .slot(*slot)
                .and_then(|entry| later.get_mut(&entry.topic))
            {
                *bytes = bytes.saturating_sub(here.bytes);
            }
        }
    }

    /// When all of a segment may go; none if that is not known.
    fn expiry(&self, summary: &Summary, later: &BTreeMap<u32, u64>) -> Option<i64> {
        let mut at = i64::MIN;
        for (slot, here) in &summary.slots {
            at = at.max(self.slot_expiry(*slot, here, later)?);
        }
        Some(at)
    }

    fn slot_expiry(
        &self,
        slot: Slot,
        here: &SlotSummary,
        later: &BTreeMap<u32, u64>,
    ) -> Option<i64> {
        let entry = self.catalog.slot(slot)?;
        if here.end <= entry.base {
            return Some(i64::MIN);
        }
        if self.catalog.floor(slot) < here.end {
            return None;
        }
        let spec = &self.catalog.topics.get(entry.topic as usize)?.spec;
        let kept = later.get(&entry.topic).copied().unwrap_or(0);
        if spec.retention_bytes.is_some_and(|max| kept >= max) {
            return Some(i64::MIN);
        }
        let age = i64::try_from(spec.retention?.as_micros()).unwrap_or(i64::MAX);
        // One microsecond more than the age, for what is exactly as old is kept.
        Some(here.last_time.saturating_add(age).saturating_add(1))
    }

    /// Drops segments: first the journal says so, durably, then the files go.
    fn retire(&mut self, segments: &[u32]) -> trunkline_core::Result<()> {
        let mut metas = Vec::new();
        let mut bases: BTreeMap<Slot, u64> = BTreeMap::new();
        for segment in segments {
            metas.push(Meta::Retired { segment: *segment });
            let slots = self.summaries.get(segment).map(|summary| &summary.slots);
            for (slot, here) in slots.into_iter().flatten() {
                let base = bases.entry(*slot).or_default();
                *base = here.end.max(*base);
            }
        }
        for (slot, base) in &bases {
            if let Some(entry) = self.catalog.slot(*slot) {
                let base = entry.base.max(*base);
                metas.push(Meta::Bounds {
                    slot: *slot,
                    base,
                    next: entry.next,
                });
            }
        }
        self.record(&metas)?;
        self.journal.sync()?;
        let directory = self.shared.directory.read().clone();
        for segment in segments {
            let slots = self.summaries.remove(segment).unwrap_or_default().slots;
            for slot in slots.keys() {
                if let Some(partition) = directory.partitions.get(*slot as usize) {
                    let base = bases.get(slot).copied().unwrap_or(0);
                    partition.state.lock().retire(base, *segment);
                }
            }
            self.shared.files.forget(*segment);
            let dir = &self.shared.config.dir;
            self.journal.keeper.discard(segment_path(dir, *segment));
            self.journal.keeper.discard(index_path(dir, *segment));
        }
        tracing::info!(
            segments = segments.len(),
            "old segments of the log were dropped"
        );
        Ok(())
    }
}
