//! Damage at random places: recovery never panics, never invents, never skips in silence.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;
use trunkline_bus::Transport;
use trunkline_core::{Env, Envelope, Error, ErrorKind};
use trunkline_log::{Log, LogConfig, Repair};

use crate::support::{fill, open, padded, read_all, segments, small};

pub(crate) fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "lock" && !entry.file_name().to_str().unwrap().ends_with(".new") {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// A log as a crash and as a clean close leave it, and all that was acknowledged, in order.
struct Sample {
    crashed: tempfile::TempDir,
    closed: tempfile::TempDir,
    events: Vec<Envelope>,
}

static SAMPLE: LazyLock<Sample> = LazyLock::new(|| {
    runtime().block_on(async {
        let closed = tempfile::tempdir().unwrap();
        let crashed = tempfile::tempdir().unwrap();
        let log = open(small(closed.path()));
        let events = fill(&log, 150).await;
        copy(closed.path(), crashed.path());
        log.close().await.unwrap();
        Sample {
            crashed,
            closed,
            events,
        }
    })
});

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

#[derive(Debug, Clone)]
enum Damage {
    Flip {
        at: usize,
        bit: u8,
    },
    Cut {
        at: usize,
    },
    Zero {
        at: usize,
        bytes: usize,
    },
    Noise {
        at: usize,
        bytes: Vec<u8>,
    },
    Append {
        bytes: Vec<u8>,
    },
    Repeat {
        from: usize,
        to: usize,
        bytes: usize,
    },
    Remove,
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<usize>();
    prop_oneof![
        4 => (at, 0..8_u8).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        2 => at.prop_map(|at| Damage::Cut { at }),
        1 => (at, 1..5000_usize).prop_map(|(at, bytes)| Damage::Zero { at, bytes }),
        1 => (at, prop::collection::vec(any::<u8>(), 1..300))
            .prop_map(|(at, bytes)| Damage::Noise { at, bytes }),
        1 => prop::collection::vec(any::<u8>(), 1..300).prop_map(|bytes| Damage::Append { bytes }),
        1 => (at, any::<usize>(), 1..3000_usize)
            .prop_map(|(from, to, bytes)| Damage::Repeat { from, to, bytes }),
        1 => Just(Damage::Remove),
    ]
}

impl Damage {
    fn apply(&self, path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        let length = bytes.len().max(1);
        match self {
            Self::Remove => return fs::remove_file(path).unwrap(),
            _ if bytes.is_empty() => {}
            Self::Flip { at, bit } => bytes[at % length] ^= 1 << bit,
            Self::Cut { at } => bytes.truncate(at % length),
            Self::Zero { at, bytes: count } => {
                let at = at % length;
                bytes[at..(at + count).min(length)].fill(0);
            }
            Self::Noise { at, bytes: noise } => {
                for (index, byte) in noise.iter().enumerate() {
                    let at = (at % length + index).min(length - 1);
                    bytes[at] = *byte;
                }
            }
            Self::Append { bytes: noise } => bytes.extend_from_slice(noise),
            Self::Repeat {
                from,
                to,
                bytes: count,
            } => {
                // The log's own bytes, where they do not belong.
                let (from, to) = (from % length / 8 * 8, to % length / 8 * 8);
                let count = (*count).min(length - from).min(length - to);
                bytes.copy_within(from..from + count, to);
            }
        }
        fs::write(path, bytes).unwrap();
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap() != "lock")
        .collect();
    files.sort();
    files
}

/// Opens and reads; what it got, and the error that ended it.
fn recover(config: LogConfig) -> (Vec<(u16, u64, Envelope)>, Option<Error>) {
    match Log::open(config, Env::seeded(1)) {
        Err(error) => (Vec::new(), Some(error)),
        Ok(log) => runtime().block_on(read_all(&log)),
    }
}

/// The events of each partition, which must stand at offsets that follow one another.
fn by_partition(all: &[(u16, u64, Envelope)]) -> BTreeMap<u16, Vec<(u64, &Envelope)>> {
    let mut partitions: BTreeMap<u16, Vec<(u64, &Envelope)>> = BTreeMap::new();
    for (partition, offset, event) in all {
        partitions
            .entry(*partition)
            .or_default()
            .push((*offset, event));
    }
    partitions
}

fn whole() -> &'static BTreeMap<u16, Vec<(u64, Envelope)>> {
    static WHOLE: LazyLock<BTreeMap<u16, Vec<(u64, Envelope)>>> = LazyLock::new(|| {
        let dir = tempfile::tempdir().unwrap();
        copy(SAMPLE.closed.path(), dir.path());
        let (all, error) = recover(small(dir.path()));
        assert!(error.is_none(), "{error:?}");
        assert_eq!(all.len(), SAMPLE.events.len());
        let owned = |events: Vec<(u64, &Envelope)>| {
            events
                .into_iter()
                .map(|(offset, event)| (offset, event.clone()))
                .collect()
        };
        by_partition(&all)
            .into_iter()
            .map(|(p, events)| (p, owned(events)))
            .collect()
    });
    &WHOLE
}

/// Partitions whose last events a repair gave up: nobody waits for what will never come.
#[test]
fn what_is_missing_at_the_end_is_no_lag() {
    let dir = tempfile::tempdir().unwrap();
    let crashed = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let log = open(small(dir.path()));
        fill(&log, 20).await;
        for n in 20.. {
            log.publish(&[padded("k0", n)]).await.unwrap();
            if segments(dir.path()).len() > 1 {
                break;
            }
        }
        copy(dir.path(), crashed.path());
        log.close().await.unwrap();
    });
    // The first segment breaks off early; of the last only its head is left, which tells what there was.
    let [first, last] = segments(crashed.path()).try_into().unwrap();
    Damage::Flip { at: 8_192, bit: 3 }.apply(&first);
    let bytes = fs::read(&last).unwrap();
    let at = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    Damage::Flip { at, bit: 3 }.apply(&last);
    let mut config = small(crashed.path());
    config.repair = Repair::Quarantine;
    let (kept, error) = recover(config);
    assert!(error.is_none(), "{error:?}");
    assert!(!kept.is_empty() && kept.len() < 80, "{}", kept.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is recovered is a prefix of what was acknowledged, or an error says that it is not.
    #[test]
    fn a_prefix_or_an_error(
        crashed in any::<bool>(),
        hits in prop::collection::vec((any::<prop::sample::Index>(), damage()), 1..3),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let from = if crashed { &SAMPLE.crashed } else { &SAMPLE.closed };
        copy(from.path(), dir.path());
        for (file, damage) in &hits {
            let files = files(dir.path());
            if !files.is_empty() {
                damage.apply(&files[file.index(files.len())]);
            }
        }
        let (all, error) = recover(small(dir.path()));
        for (partition, events) in by_partition(&all) {
            let expected = whole().get(&partition).map_or(&[][..], Vec::as_slice);
            prop_assert!(events.len() <= expected.len());
            let same = events.iter().zip(expected).all(|((o, e), (p, f))| o == p && *e == f);
            prop_assert!(same, "partition {partition} is no prefix of what was acknowledged");
        }
        match error {
            Some(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::Corrupt, "{:?}", error);
                let named: Vec<&str> = error.context().map(|(key, _)| key).collect();
                prop_assert!(named.contains(&"file") && named.contains(&"byte"), "{:?}", error);
            }
            None => {
                // Of all partitions together it is a prefix too, by whole batches of four.
                prop_assert_eq!(all.len() % 4, 0);
                let mut got: Vec<&str> = all.iter().map(|(.., event)| &*event.id).collect();
                let mut expected: Vec<&str> =
                    SAMPLE.events.iter().take(all.len()).map(|event| &*event.id).collect();
                got.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(got, expected);
            }
        }
    }

    /// A repair opens whatever was damaged; what it keeps is what was acknowledged, in order.
    #[test]
    fn a_repair_keeps_what_it_can(
        hits in prop::collection::vec((any::<prop::sample::Index>(), damage()), 1..3),
    ) {
        let dir = tempfile::tempdir().unwrap();
        copy(SAMPLE.crashed.path(), dir.path());
        for (file, damage) in &hits {
            let files = files(dir.path());
            if !files.is_empty() {
                damage.apply(&files[file.index(files.len())]);
            }
        }
        let mut config = small(dir.path());
        config.repair = Repair::Quarantine;
        let (all, error) = recover(config);
        if let Some(error) = &error {
            // The head of the last segment is the one thing that can't be done without.
            prop_assert_eq!(error.kind(), ErrorKind::Corrupt, "{:?}", error);
            return Ok(());
        }
        for (partition, events) in by_partition(&all) {
            let expected = whole().get(&partition).map_or(&[][..], Vec::as_slice);
            for (offset, event) in &events {
                let found = expected.iter().find(|(at, _)| at == offset);
                prop_assert_eq!(found.map(|(_, event)| event), Some(*event));
            }
            prop_assert!(events.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
        // Once repaired, it opens as it is, and has the same.
        let (again, error) = recover(small(dir.path()));
        prop_assert!(error.is_none(), "{:?}", error);
        prop_assert_eq!(again.len(), all.len());
    }
}

#[test]
fn damage_in_the_middle_is_told_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    copy(SAMPLE.crashed.path(), dir.path());
    let last = segments(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    // Well inside: batches follow.
    bytes[2000] ^= 1;
    fs::write(&last, &bytes).unwrap();
    let (_, error) = recover(small(dir.path()));
    let error = error.unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let context: BTreeMap<&str, &str> = error.context().collect();
    assert_eq!(context["file"], last.display().to_string());
    let byte: usize = context["byte"].parse().unwrap();
    assert!((64..=2000).contains(&byte), "{error}");
    assert_eq!(fs::read(&last).unwrap(), bytes, "it was not touched");
}

#[test]
fn a_torn_tail_is_cut_and_told() {
    let dir = tempfile::tempdir().unwrap();
    copy(SAMPLE.crashed.path(), dir.path());
    let last = segments(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes.truncate(end - 50);
    fs::write(&last, &bytes).unwrap();
    let log = open(small(dir.path()));
    assert!(log.recovery().torn_bytes > 0);
    let (all, error) = runtime().block_on(read_all(&log));
    assert!(error.is_none());
    assert_eq!(
        all.len(),
        SAMPLE.events.len() - 4,
        "the last batch of four was torn"
    );
    // It goes on behind the cut.
    let more = runtime().block_on(async { fill(&log, 5).await.len() });
    drop(log);
    let (again, error) = recover(small(dir.path()));
    assert!(error.is_none(), "{error:?}");
    assert_eq!(again.len(), all.len() + more);
}
