//! Where partitions begin and end, and where groups are.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::Notify;
use tokio::time::Instant;
use trunkline_bus::Start;
use trunkline_core::{Result, Retry};

use crate::client::{Client, Faults, Reader, blocking, reader_settings};
use crate::config::KafkaConfig;
use crate::error;
use crate::topics::Topic;

/// The offset of each partition of `topics` where `start` is. It blocks.
pub(crate) fn find(
    reader: &Reader,
    topics: &[Arc<Topic>],
    start: Start,
    limit: Duration,
) -> Result<Vec<(Arc<Topic>, i32, i64)>> {
    let ends = ask(reader, topics, Offset::End, limit)?;
    let found = match start {
        Start::Latest => ends,
        Start::Committed | Start::Earliest => ask(reader, topics, Offset::Beginning, limit)?,
        Start::Offset(offset) => {
            let begins = ask(reader, topics, Offset::Beginning, limit)?;
            let offset = i64::try_from(offset).unwrap_or(i64::MAX);
            let range = begins.into_iter().zip(ends);
            range
                .map(|(begin, end)| offset.clamp(begin, end.max(begin)))
                .collect()
        }
        // Kafka's times are whole milliseconds. What was published in the same one comes too.
        Start::Time(at) => {
            let at = Offset::Offset(at.as_millisecond().max(0));
            let first = ask(reader, topics, at, limit)?.into_iter().zip(ends);
            // There is none since: it begins with what comes.
            first
                .map(|(first, end)| if first < 0 { end } else { first })
                .collect()
        }
    };
    let all = all(topics).zip(found);
    Ok(all
        .map(|((topic, partition), offset)| (topic.clone(), partition, offset))
        .collect())
}

fn all(topics: &[Arc<Topic>]) -> impl Iterator<Item = (&Arc<Topic>, i32)> {
    topics
        .iter()
        .flat_map(|topic| (0..topic.partitions).map(move |partition| (topic, partition)))
}

/// How long to wait before asking again for what brokers are only about to know.
const AGAIN: Duration = Duration::from_millis(20);

const ASKING: &str = "asking for offsets";

/// One question for all partitions: `at` is a time, or the beginning or the end.
fn ask(reader: &Reader, topics: &[Arc<Topic>], at: Offset, limit: Duration) -> Result<Vec<i64>> {
    let until = Instant::now() + limit;
    loop {
        let rest = until.saturating_duration_since(Instant::now());
        match ask_once(reader, topics, at, rest) {
            // The topic is new, or its leader has changed.
            Err(error) if error.retry() == Retry::Transient && Instant::now() + AGAIN < until => {
                std::thread::sleep(AGAIN);
            }
            done => return done,
        }
    }
}

fn ask_once(
    reader: &Reader,
    topics: &[Arc<Topic>],
    at: Offset,
    limit: Duration,
) -> Result<Vec<i64>> {
    let wrong = |failed| error::kafka(ASKING, failed);
    let mut list = TopicPartitionList::with_capacity(topics.len());
    for (topic, partition) in all(topics) {
        list.add_partition_offset(&topic.full, partition, at)
            .map_err(wrong)?;
    }
    let found = reader.offsets_for_times(list, limit).map_err(wrong)?;
    let mut offsets = Vec::with_capacity(found.count());
    for (topic, partition) in all(topics) {
        let entry = found.find_partition(&topic.full, partition);
        let entry = entry.ok_or_else(|| error::silent(ASKING))?;
        entry.error().map_err(|failed| {
            error::kafka(ASKING, failed)
                .with("topic", &topic.full)
                .with("partition", partition)
        })?;
        offsets.push(match entry.offset() {
            Offset::Offset(offset) => offset,
            // There is nothing at or after the time.
            _ => -1,
        });
    }
    Ok(offsets)
}

/// Moves a group, unless somebody is in it: the coordinator takes positions from outsiders only then.
pub(crate) async fn move_group(
    config: &Arc<KafkaConfig>,
    faults: &Arc<Faults>,
    group: &str,
    to: Vec<(Arc<Topic>, i32, i64)>,
) -> Result<()> {
    const MOVING: &str = "moving a group";
    let outsider = Client::new(
        &reader_settings(config, group),
        faults.clone(),
        Arc::new(Notify::new()),
    )?;
    let limit = config.limit;
    let name = group.to_owned();
    blocking(limit, MOVING, move || {
        let until = Instant::now() + limit;
        let mut list = TopicPartitionList::with_capacity(to.len());
        for (topic, partition, offset) in to {
            let added = list.add_partition_offset(&topic.full, partition, Offset::Offset(offset));
            added.map_err(|failed| error::kafka(MOVING, failed))?;
        }
        loop {
            let Err(failed) = outsider.reader().commit(&list, CommitMode::Sync) else {
                return Ok(());
            };
            match failed.rdkafka_error_code() {
                Some(
                    Code::UnknownMemberId | Code::IllegalGeneration | Code::RebalanceInProgress,
                ) => return Ok(()),
                // The group's coordinator is only about to be known.
                Some(
                    Code::WaitingForCoordinator
                    | Code::NotCoordinator
                    | Code::CoordinatorLoadInProgress
                    | Code::CoordinatorNotAvailable,
                ) if Instant::now() < until => std::thread::sleep(AGAIN),
                _ => return Err(error::kafka(MOVING, failed).with("group", &name)),
            }
        }
    })
    .await
}

/// How many events of `topics` are not done. `held` are the partitions of the subscription itself, with the
/// lowest unfinished offset as far as it is known, and how many beyond are done. It blocks.
///
/// Offsets that hold no event are counted, where a topic has such: records of transactions, compacted ones.
pub(crate) fn lag(
    reader: &Reader,
    topics: &[Arc<Topic>],
    held: &[(String, i32, Option<i64>, u64)],
    (is_group, limit): (bool, Duration),
) -> Result<u64> {
    let ends = ask(reader, topics, Offset::End, limit)?;
    let mut positions: Vec<Option<i64>> = all(topics)
        .map(|(topic, partition)| {
            let mine = held
                .iter()
                .find(|(full, number, ..)| *full == topic.full && *number == partition);
            mine.and_then(|(_, _, position, _)| *position)
        })
        .collect();
    if is_group && positions.iter().any(Option::is_none) {
        const ASKING: &str = "asking where a group is";
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for (topic, partition) in all(topics) {
            list.add_partition(&topic.full, partition);
        }
        let found = reader.committed_offsets(list, limit);
        let found = found.map_err(|failed| error::kafka(ASKING, failed))?;
        for ((topic, partition), position) in all(topics).zip(&mut positions) {
            let entry = found.find_partition(&topic.full, partition);
            if let (None, Some(Offset::Offset(offset))) =
                (&position, entry.map(|entry| entry.offset()))
            {
                *position = Some(offset);
            }
        }
    }
    // Where a group has no position it starts with the earliest event; what is no longer kept is no lag.
    let begins = ask(reader, topics, Offset::Beginning, limit)?;
    let open = positions.into_iter().zip(begins).zip(ends);
    let open = open.map(|((position, begin), end)| {
        let from = position.unwrap_or(begin).max(begin);
        u64::try_from(end - from).unwrap_or(0)
    });
    let done: u64 = held.iter().map(|(_, _, _, done)| done).sum();
    Ok(open.sum::<u64>().saturating_sub(done))
}
