//! Positions are committed together, one commit at a time.

use std::sync::Arc;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Errand, Service};
use crate::partition::Partition;

/// Positions on their way to the coordinator.
pub(super) struct Commit {
    positions: Vec<(Arc<Partition>, i64)>,
    flushes: Vec<oneshot::Sender<()>>,
}

impl Service {
    /// Waits until the positions of what has ended are committed, or can't be.
    pub(super) async fn settle_positions(&mut self) {
        let until = Instant::now() + self.config.limit;
        self.commit_from = Instant::now();
        self.commit();
        while self.is_owing() && Instant::now() < until && !self.client.reader().assignment_lost() {
            self.step(Some(until)).await;
        }
        // The next member gets again what was not committed.
        self.ended.clear();
    }

    /// Whether a position of a partition that has ended is not committed. A coordinator that is about to tell
    /// shares takes none for a moment.
    fn is_owing(&self) -> bool {
        self.ended
            .iter()
            .any(|partition| partition.uncommitted().is_some())
    }

    /// Takes in the outcome of the commit that was on its way.
    pub(super) fn committed(&mut self, outcome: KafkaResult<()>) {
        let Some(commit) = self.commit.take() else {
            return;
        };
        match outcome {
            Ok(()) => {
                for (partition, position) in &commit.positions {
                    partition.committed(*position);
                }
                answer(commit.flushes);
            }
            Err(failed) => {
                tracing::debug!(%failed, "positions were not committed; they will be again");
                self.flushes.extend(commit.flushes);
                self.commit_from = Instant::now() + self.config.commit_delay;
                self.flush_from = self.commit_from;
            }
        }
        self.desk.soil();
    }

    /// Sends the next commit if it is due.
    pub(super) fn commit(&mut self) {
        if !self.is_group {
            return;
        }
        self.flushes.extend(self.desk.flushes());
        let now = Instant::now();
        let flushes = !self.flushes.is_empty() && now >= self.flush_from;
        let due = self.desk.is_soiled() && now >= self.commit_from;
        if self.commit.is_none() && (flushes || due) {
            self.send_positions();
        }
    }

    fn send_positions(&mut self) {
        self.desk.clean();
        self.commit_from = Instant::now() + self.config.commit_delay;
        let mut positions = Vec::new();
        let held = self.desk.partitions.read().clone();
        for partition in held.iter().chain(&self.ended) {
            if let Some(position) = partition.uncommitted() {
                positions.push((partition.clone(), position));
            }
        }
        let flushes = std::mem::take(&mut self.flushes);
        if positions.is_empty() {
            answer(flushes);
            return;
        }
        let offsets: TopicPartitionList = positions
            .iter()
            .map(|(partition, position)| {
                let offset = Offset::Offset(*position);
                (partition.full.clone(), partition.number, offset)
            })
            .collect();
        let reader = self.client.downgrade();
        self.commit = Some(Commit { positions, flushes });
        self.errands.spawn_blocking(move || {
            let reader = reader.upgrade().ok_or(KafkaError::Canceled);
            Errand::Commit(reader.and_then(|reader| reader.commit(&offsets, CommitMode::Sync)))
        });
    }
}

fn answer(flushes: Vec<oneshot::Sender<()>>) {
    for flush in flushes {
        // Whoever waited and is gone does not mind.
        let _gone = flush.send(());
    }
}
