//! A disk that fails when it is told to.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use trunkline_bus::{Start, Subscribe, Transport};
use trunkline_core::{Env, ErrorKind, Result, Retry};
use trunkline_testkit::{numbered, topic};

use super::Log;
use crate::config::{Durability, LogConfig};
use crate::disk::{Disk, DiskFile, SystemDisk};

#[derive(Debug, Default)]
struct Faults {
    /// Writes write half of it and then say that the disk is full.
    full: AtomicBool,
    /// Cutting a file fails too.
    stuck: AtomicBool,
    unsyncable: AtomicBool,
    unrenamable: AtomicBool,
}

#[derive(Debug)]
struct FaultyDisk(Arc<Faults>);

#[derive(Debug)]
struct FaultyFile(Arc<Faults>, Box<dyn DiskFile>);

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(FaultyFile(
            self.0.clone(),
            SystemDisk.create(path)?,
        )))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(FaultyFile(self.0.clone(), SystemDisk.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)?;
        // The name may be there although its sync failed.
        fail(&self.0.unrenamable, io::ErrorKind::Other)
    }
}

impl DiskFile for FaultyFile {
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.0.full.load(Ordering::SeqCst) {
            self.1.write_all_at(&bytes[..bytes.len() / 2], at)?;
        }
        fail(&self.0.full, io::ErrorKind::StorageFull)?;
        self.1.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        fail(&self.0.unsyncable, io::ErrorKind::Other)?;
        self.1.sync()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        fail(&self.0.stuck, io::ErrorKind::Other)?;
        self.1.set_len(bytes)
    }
}

fn fail(fault: &AtomicBool, kind: io::ErrorKind) -> io::Result<()> {
    if fault.load(Ordering::SeqCst) {
        Err(kind.into())
    } else {
        Ok(())
    }
}

struct Bench {
    dir: tempfile::TempDir,
    faults: Arc<Faults>,
    log: Log,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::default());
        let log = open(dir.path(), &faults).unwrap();
        log.declare(&[topic("t", 1)]).await.unwrap();
        Self { dir, faults, log }
    }

    async fn publish(&self, n: usize) -> Result<(), trunkline_bus::PublishError> {
        self.log.publish(&[numbered("t", "k", n)]).await
    }

    /// What a log that is opened anew finds.
    async fn reopened(self) -> Vec<String> {
        // That closing fails is what the caller provoked.
        drop(self.log.close().await);
        drop(self.log);
        let log = Log::open(config(self.dir.path()), Env::system()).unwrap();
        ids(&log).await
    }
}

fn config(dir: &Path) -> LogConfig {
    let mut config = LogConfig::new(dir);
    config.segment_bytes_max = 64 * 1024;
    config
}

fn open(dir: &Path, faults: &Arc<Faults>) -> Result<Log> {
    Log::open_on(
        config(dir),
        Env::system(),
        Arc::new(FaultyDisk(faults.clone())),
    )
}

async fn ids(log: &Log) -> Vec<String> {
    let spec = Subscribe {
        topics: vec!["t".into()],
        group: None,
        start: Start::Earliest,
        in_flight_max: 1000,
    };
    let mut reader = log.subscribe(&spec).await.unwrap();
    let mut ids = Vec::new();
    while reader.lag().await.unwrap() > 0 {
        for delivery in reader.next(1000).await.unwrap() {
            ids.push(delivery.envelope.id.to_string());
            delivery.receipt.ack();
        }
    }
    ids
}

fn expected(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|n| format!("k/{n}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_accepts_nothing_and_the_log_goes_on() {
    let bench = Bench::new().await;
    bench.publish(0).await.unwrap();
    bench.faults.full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let refused = bench.publish(1).await.unwrap_err();
        assert_eq!(refused.accepted, 0);
        assert_eq!(refused.error.kind(), ErrorKind::Unavailable);
        assert_eq!(refused.error.code(), "log_full");
        assert_eq!(refused.error.retry(), Retry::Transient);
    }
    assert_eq!(
        ids(&bench.log).await,
        expected(0..1),
        "what is there is still read"
    );
    bench.log.check().unwrap();
    bench.faults.full.store(false, Ordering::SeqCst);
    bench.publish(2).await.unwrap();
    assert_eq!(bench.reopened().await, expected([0, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_was_not_written_is_written_later() {
    let bench = Bench::new().await;
    bench.publish(0).await.unwrap();
    let spec = Subscribe {
        topics: vec!["t".into()],
        group: Some("g".into()),
        start: Start::Committed,
        in_flight_max: 10,
    };
    let mut member = bench.log.subscribe(&spec).await.unwrap();
    let taken = member.next(1).await.unwrap();
    bench.faults.full.store(true, Ordering::SeqCst);
    taken
        .into_iter()
        .for_each(|delivery| delivery.receipt.ack());
    let failed = member.flush().await.unwrap_err();
    assert_eq!(failed.code(), "log_full");
    bench.faults.full.store(false, Ordering::SeqCst);
    member.flush().await.unwrap();
    drop(member);
    bench.log.close().await.unwrap();
    let log = Log::open(config(bench.dir.path()), Env::system()).unwrap();
    let member = log.subscribe(&spec).await.unwrap();
    assert_eq!(member.lag().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_that_cannot_be_undone_is_undone_before_the_next() {
    let bench = Bench::new().await;
    bench.publish(0).await.unwrap();
    bench.faults.full.store(true, Ordering::SeqCst);
    bench.faults.stuck.store(true, Ordering::SeqCst);
    bench.publish(1).await.unwrap_err();
    bench.faults.full.store(false, Ordering::SeqCst);
    let refused = bench.publish(1).await.unwrap_err();
    assert_eq!(
        refused.error.kind(),
        ErrorKind::Unavailable,
        "{:?}",
        refused.error
    );
    bench.faults.stuck.store(false, Ordering::SeqCst);
    bench.publish(2).await.unwrap();
    assert_eq!(bench.reopened().await, expected([0, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_is_never_taken_for_a_good_one() {
    let bench = Bench::new().await;
    bench.publish(0).await.unwrap();
    bench.faults.unsyncable.store(true, Ordering::SeqCst);
    let failed = bench.publish(1).await.unwrap_err();
    assert_eq!(failed.error.code(), "log_poisoned");
    assert_eq!(
        failed.error.retry(),
        Retry::Unknown,
        "it may be there when the log is opened again"
    );
    bench.faults.unsyncable.store(false, Ordering::SeqCst);
    let refused = bench.publish(2).await.unwrap_err();
    assert_eq!(refused.error.code(), "log_poisoned");
    assert_eq!(refused.error.retry(), Retry::Transient);
    assert!(bench.log.check().is_err());
    assert_eq!(
        ids(&bench.log).await,
        expected(0..1),
        "what was not synced is not delivered"
    );
    let found = bench.reopened().await;
    assert!(
        found == expected(0..1) || found == expected(0..2),
        "{found:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_cannot_be_made_leaves_the_log_where_it_was() {
    let bench = Bench::new().await;
    let mut accepted = Vec::new();
    bench.faults.unrenamable.store(true, Ordering::SeqCst);
    // More than a segment.
    for n in 0..600 {
        match bench.publish(n).await {
            Ok(()) => accepted.push(n),
            Err(refused) => {
                assert_eq!(refused.error.kind(), ErrorKind::Unavailable);
                bench.faults.unrenamable.store(false, Ordering::SeqCst);
            }
        }
    }
    assert_eq!(accepted.len(), 599, "the refused one alone is missing");
    assert_eq!(ids(&bench.log).await, expected(accepted.clone()));
    assert_eq!(bench.reopened().await, expected(accepted));
}

#[tokio::test(flavor = "multi_thread")]
async fn weaker_durability_does_not_sync_before_it_answers() {
    for durability in [
        Durability::Os,
        Durability::Interval(std::time::Duration::from_secs(3600)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::default());
        let mut config = config(dir.path());
        config.durability = durability;
        let disk = Arc::new(FaultyDisk(faults.clone()));
        let log = Log::open_on(config.clone(), Env::system(), disk).unwrap();
        log.declare(&[topic("t", 1)]).await.unwrap();
        faults.unsyncable.store(true, Ordering::SeqCst);
        log.publish(&[numbered("t", "k", 0)]).await.unwrap();
        assert_eq!(ids(&log).await, expected(0..1));
        // Closing syncs, whatever the setting, and says so if it can't.
        assert!(log.close().await.is_err());
    }
}

/// Retention drops files while somebody reads them: what is not kept any more is no damage.
#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_is_dropped_while_it_is_read_is_not_damaged() {
    let bench = Bench::new().await;
    let segments_before_active = 3;
    let mut published = 0;
    while std::fs::read_dir(bench.dir.path())
        .unwrap()
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_str().unwrap().ends_with(".segment")
        })
        .count()
        <= segments_before_active
    {
        bench.publish(published).await.unwrap();
        published += 1;
    }
    let shared = &bench.log.owner.shared;
    let partition = shared.directory.read().partitions[0].clone();
    let drop_segments = |upto: u32| {
        for segment in 1..=upto {
            shared.files.forget(segment);
            let path = crate::index::segment_path(bench.dir.path(), segment);
            if let Err(error) = std::fs::remove_file(path) {
                assert_eq!(error.kind(), io::ErrorKind::NotFound);
            }
        }
    };
    // Dropped in the middle of it: what was open is read to its end, what was not is passed over.
    let mut seen = 0;
    let mut walk = |from: u64, mut between: Option<&dyn Fn()>| {
        let found = shared.files.walk(&partition, from, |_| {
            seen += 1;
            if let Some(between) = between.take() {
                between();
            }
            Ok(std::ops::ControlFlow::Continue(()))
        });
        found.unwrap();
        std::mem::take(&mut seen)
    };
    let all = walk(0, None);
    assert_eq!(all, published);
    let rest = walk(0, Some(&|| drop_segments(2)));
    assert!(rest > 0 && rest < all, "{rest} of {all}");
    let later = walk(0, None);
    assert!(later > 0 && later < rest, "{later} of {rest}");
}
