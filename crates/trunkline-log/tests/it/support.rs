//! What the tests share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use trunkline_bus::{Start, Subscribe, Subscription, Transport};
use trunkline_core::{Env, Envelope, Error, Result};
use trunkline_log::{Durability, Log, LogConfig};
use trunkline_testkit::{numbered, topic};

/// Small segments and little memory, so that a few events fill several files.
pub(crate) fn small(dir: &Path) -> LogConfig {
    let mut config = LogConfig::new(dir);
    config.segment_bytes_max = 64 * 1024;
    config.tail_bytes_max = 8 * 1024;
    config.durability = Durability::Os;
    config
}

pub(crate) fn open(config: LogConfig) -> Log {
    Log::open(config, Env::system()).unwrap()
}

/// Publishes events of keys `k0` to `k3` to topic `t`, `count` batches of four.
pub(crate) async fn fill(log: &Log, count: usize) -> Vec<Envelope> {
    log.declare(&[topic("t", 3)]).await.unwrap();
    let mut all = Vec::new();
    for n in 0..count {
        let batch: Vec<Envelope> = (0..4).map(|key| padded(&format!("k{key}"), n)).collect();
        log.publish(&batch).await.unwrap();
        all.extend(batch);
    }
    all
}

/// An event with some weight.
pub(crate) fn padded(key: &str, n: usize) -> Envelope {
    let mut event = numbered("t", key, n);
    event.data = format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(200)).into();
    event
}

/// The segment files of a log, oldest first.
pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut segments: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "segment"))
        .collect();
    segments.sort();
    segments
}

pub(crate) fn spec(group: Option<&str>, start: Start) -> Subscribe {
    Subscribe {
        topics: vec!["t".into()],
        group: group.map(Into::into),
        start,
        in_flight_max: 100_000,
    }
}

/// Reads all that is there as (partition, offset, event), and the error that ended it.
pub(crate) async fn read_all(log: &Log) -> (Vec<(u16, u64, Envelope)>, Option<Error>) {
    let mut reader = match log.subscribe(&spec(None, Start::Earliest)).await {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), Some(error)),
    };
    drain(&mut *reader).await
}

/// Takes and acknowledges until nothing is left.
pub(crate) async fn drain(
    reader: &mut dyn Subscription,
) -> (Vec<(u16, u64, Envelope)>, Option<Error>) {
    let mut all = Vec::new();
    while reader.lag().await.unwrap() > 0 {
        match take(reader).await {
            Ok(some) => all.extend(some),
            Err(error) => return (all, Some(error)),
        }
    }
    (all, None)
}

async fn take(reader: &mut dyn Subscription) -> Result<Vec<(u16, u64, Envelope)>> {
    let next = tokio::time::timeout(Duration::from_secs(20), reader.next(1000)).await;
    let taken = next.expect("what lags is delivered")?;
    assert!(!taken.is_empty(), "the log was closed");
    Ok(taken
        .into_iter()
        .map(|delivery| {
            delivery.receipt.ack();
            (delivery.partition, delivery.offset, delivery.envelope)
        })
        .collect())
}
