//! What must not be known before it is on disk: a test holds the sync, and looks who waits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use parking_lot::{Condvar, Mutex};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use trunkline_bus::memory::Memory;
use trunkline_bus::{Start, Subscribe, Transport};
use trunkline_core::{Env, Error, Result, Retry};
use trunkline_saga::{Begin, Definition, Engine, Plain, Saga, Settings, State, Which};
use trunkline_telemetry::Telemetry;
use trunkline_testkit::{eventually, numbered};

use crate::store::Backend;
use crate::{Migration, Relay, Store, StoreConfig, SyncProbe, Tx, sql};

/// Long enough for anything that will happen at all.
const LIMIT: Duration = Duration::from_secs(60);

const NOTES: &[Migration] = &[Migration {
    name: "0001_notes",
    sql: "CREATE TABLE note (name TEXT PRIMARY KEY)",
}];

/// A disk that syncs when it may.
#[derive(Debug, Default)]
struct Disk {
    shut: Mutex<bool>,
    opened: Condvar,
    broken: AtomicBool,
    syncs: AtomicUsize,
}

impl SyncProbe for Disk {
    fn before(&self) -> io::Result<()> {
        let mut shut = self.shut.lock();
        while *shut {
            self.opened.wait(&mut shut);
        }
        self.syncs.fetch_add(1, Ordering::SeqCst);
        match self.broken.load(Ordering::SeqCst) {
            true => Err(io::Error::other("the cable is loose")),
            false => Ok(()),
        }
    }
}

impl Disk {
    fn hold(&self) {
        *self.shut.lock() = true;
    }

    fn release(&self) {
        *self.shut.lock() = false;
        self.opened.notify_all();
    }

    fn syncs(&self) -> usize {
        self.syncs.load(Ordering::SeqCst)
    }
}

struct Held {
    disk: Arc<Disk>,
    store: Store,
    url: String,
    _folder: TempDir,
}

impl Held {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("store.db").display());
        let disk = Arc::new(Disk::default());
        let mut config = StoreConfig::new(url.as_str(), "test-service");
        config.sync_probe = Some(disk.clone());
        let store = Store::open_with(config, Env::system()).await.unwrap();
        store.migrate(NOTES).await.unwrap();
        Self {
            disk,
            store,
            url,
            _folder: folder,
        }
    }

    /// Returns when so many wait for the disk.
    async fn until_waiting(&self, count: usize) {
        let Backend::Sqlite(sqlite) = self.store.backend() else {
            panic!("it is in a file");
        };
        eventually(LIMIT, async || sqlite.syncs.waiting() == count).await;
    }

    /// A transaction that is committed and then waits, or not.
    fn commit(&self, name: &'static str) -> JoinHandle<Result<()>> {
        let store = self.store.clone();
        spawn(async move { noted(&store, name).await?.commit().await })
    }

    async fn names(&self) -> Vec<String> {
        let mut reader = self.store.read().await.unwrap();
        let names = sql("SELECT name FROM note ORDER BY name").all::<(String,)>(&mut reader);
        names.await.unwrap().into_iter().map(|row| row.0).collect()
    }

    fn relay(&self, bus: &Arc<Memory>) -> Relay {
        let telemetry = Telemetry::disabled(Env::system());
        Relay::start(self.store.clone(), bus.clone(), telemetry, Env::system())
    }
}

#[expect(clippy::disallowed_methods, reason = "the test waits for its end")]
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task)
}

async fn noted(store: &Store, name: &str) -> Result<Tx> {
    let mut tx = store.begin().await?;
    let note = sql("INSERT INTO note (name) VALUES ($1)").bind(name);
    note.run(tx.conn()).await?;
    Ok(tx)
}

async fn bus() -> Arc<Memory> {
    let bus = Memory::new(Env::system());
    let topics = trunkline_bus::lanes(&trunkline_testkit::topic("t", 1));
    bus.declare(&topics).await.unwrap();
    Arc::new(bus)
}

async fn listen(bus: &Memory) -> Box<dyn trunkline_bus::Subscription> {
    let spec = Subscribe {
        topics: vec!["t".into()],
        group: None,
        start: Start::Earliest,
        in_flight_max: 100,
    };
    bus.subscribe(&spec).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_answered_when_its_sync_has_ended() {
    let held = Held::new().await;
    held.disk.hold();
    let first = held.commit("first");
    held.until_waiting(1).await;
    // The writer goes on meanwhile, and those who come share the next sync.
    let others: Vec<_> = ["a", "b", "c"].map(|name| held.commit(name)).into();
    held.until_waiting(4).await;
    assert_eq!(held.names().await, ["a", "b", "c", "first"]);
    assert!(!first.is_finished() && others.iter().all(|other| !other.is_finished()));
    let before = held.disk.syncs();
    held.disk.release();
    first.await.unwrap().unwrap();
    for other in others {
        other.await.unwrap().unwrap();
    }
    assert_eq!(held.disk.syncs() - before, 2, "three share one");
    held.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_sent_when_its_row_is_on_disk() {
    let held = Held::new().await;
    let bus = bus().await;
    let mut sent = listen(&bus).await;
    let relay = held.relay(&bus);
    eventually(LIMIT, async || relay.status().await.unwrap().leading).await;
    held.disk.hold();
    let mut tx = noted(&held.store, "sold").await.unwrap();
    tx.publish(numbered("t", "k", 0)).await.unwrap();
    let commit = spawn(tx.commit());
    // The commit, and the relay that has read its row.
    held.until_waiting(2).await;
    assert!(sent.next(1).now_or_never().is_none(), "nothing is sent yet");
    held.disk.release();
    assert_eq!(sent.next(1).await.unwrap().len(), 1);
    commit.await.unwrap().unwrap();
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_acts_on_what_it_read_waits_for_the_disk() {
    let held = Held::new().await;
    held.store.settled().await.unwrap();
    held.disk.hold();
    let commit = held.commit("seen");
    held.until_waiting(1).await;
    assert_eq!(held.names().await, ["seen"]);
    let mut waiting = JoinSet::new();
    let store = held.store.clone();
    waiting.spawn(async move { store.settled().await });
    let store = held.store.clone();
    waiting.spawn(async move { store.seen("group", "event").await.map(drop) });
    let store = held.store.clone();
    waiting.spawn(async move { noted(&store, "undone").await?.rollback().await });
    held.until_waiting(4).await;
    held.disk.release();
    commit.await.unwrap().unwrap();
    assert!(waiting.join_all().await.iter().all(Result::is_ok));
    let before = held.disk.syncs();
    held.store.settled().await.unwrap();
    assert_eq!(held.disk.syncs(), before, "all is on disk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn housekeeping_waits_for_nothing_but_what_reads_it_does() {
    let held = Held::new().await;
    held.disk.hold();
    let tx = held.store.begin_relaxed().await.unwrap();
    tx.commit().await.unwrap();
    let store = held.store.clone();
    let settled = spawn(async move { store.settled().await });
    held.until_waiting(1).await;
    held.disk.release();
    settled.await.unwrap().unwrap();
}

/// Two steps; the first may end when the disk has stopped syncing.
fn saga(held: &Arc<Notify>, second: &Arc<AtomicBool>) -> Definition<Plain> {
    let (held, second) = (held.clone(), second.clone());
    Definition::named("order").version(1, move |saga: Saga<Plain>, (): ()| {
        let (held, second) = (held.clone(), second.clone());
        async move {
            saga.step::<()>("first")
                .run(move |_| {
                    let held = held.clone();
                    async move {
                        held.notified().await;
                        Ok(())
                    }
                })
                .await?;
            saga.step::<()>("second")
                .run(move |_| {
                    second.store(true, Ordering::SeqCst);
                    async { Ok(()) }
                })
                .await
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_takes_its_next_step_when_the_last_is_on_disk() {
    let held = Held::new().await;
    let second = Arc::new(AtomicBool::default());
    let journal = Arc::new(held.store.sagas());
    let disk_held = Arc::new(Notify::new());
    let sagas = vec![saga(&disk_held, &second)];
    let settings = Settings::default();
    let engine = Engine::new(Plain, journal, Env::system(), sagas, settings).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let runs = engine.clone();
    let running = spawn(async move { runs.run(stopped.map(drop)).await });
    let begin = Begin::flow("1");
    // It runs as soon as its row is on disk, which may be before this is told.
    let id = engine.start("order", "1", &(), begin).await.unwrap().id;
    held.disk.hold();
    disk_held.notify_one();
    held.until_waiting(1).await;
    assert!(
        !second.load(Ordering::SeqCst),
        "the first step's entry waits for the disk"
    );
    held.disk.release();
    let ended = engine.settled(&Which::Id(id)).await.unwrap();
    assert_eq!(ended.state, State::Completed);
    assert!(second.load(Ordering::SeqCst));
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_refuses_and_tells_nobody() {
    let held = Held::new().await;
    let bus = bus().await;
    let mut sent = listen(&bus).await;
    let relay = held.relay(&bus);
    eventually(LIMIT, async || relay.status().await.unwrap().leading).await;
    held.disk.broken.store(true, Ordering::SeqCst);
    let mut tx = noted(&held.store, "lost").await.unwrap();
    tx.publish(numbered("t", "k", 0)).await.unwrap();
    let refused = tx.commit().await.unwrap_err();
    assert_eq!(code(&refused), ("store_sync_failed", Retry::Unknown));
    // From here on a sync would succeed, and prove nothing.
    held.disk.broken.store(false, Ordering::SeqCst);
    for refused in [
        noted(&held.store, "next").await.map(drop).unwrap_err(),
        held.store.settled().await.unwrap_err(),
        held.store.check().await.unwrap_err(),
    ] {
        assert_eq!(code(&refused), ("store_sync_failed", Retry::Transient));
        assert!(crate::is_away(&refused), "no event is parked for it");
    }
    let status = async || relay.status().await.unwrap();
    eventually(LIMIT, async || status().await.last_error.is_some()).await;
    assert!(sent.next(1).now_or_never().is_none(), "nothing was sent");
    relay.stop().await;
    held.store.close().await;
    drop((relay, sent));
    let Held { store, url, .. } = held;
    drop(store);
    let again = Store::open(&url, "test-service", Env::system()).await;
    assert_eq!(again.unwrap_err().code(), "store_sync_failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_starts_a_saga_is_told_that_the_sync_failed() {
    let held = Held::new().await;
    let journal = Arc::new(held.store.sagas());
    let sagas = vec![saga(&Arc::default(), &Arc::default())];
    let mut settings = Settings::default();
    // The first step never ends.
    settings.drain = Duration::ZERO;
    let engine = Engine::new(Plain, journal, Env::system(), sagas, settings).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let runs = engine.clone();
    let running = spawn(async move { runs.run(stopped.map(drop)).await });
    let start = async |key: &str| engine.start("order", key, &(), Begin::flow(key)).await;
    start("1").await.unwrap();
    held.disk.hold();
    held.disk.broken.store(true, Ordering::SeqCst);
    let there = async || {
        let mut reader = held.store.read().await.unwrap();
        let found = sql("SELECT key FROM trunkline_saga WHERE key = '2'");
        !found
            .all::<(String,)>(&mut reader)
            .await
            .unwrap()
            .is_empty()
    };
    let (waiting, _) = tokio::join!(start("2"), async {
        eventually(LIMIT, there).await;
        held.disk.release();
    });
    // It may be on disk.
    let refused = waiting.unwrap_err();
    assert_eq!(code(&refused), ("store_sync_failed", Retry::Unknown));
    // That one was not begun.
    let refused = start("3").await.unwrap_err();
    assert_eq!(code(&refused), ("store_sync_failed", Retry::Transient));
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_starts_a_saga_is_told_of_a_sync_that_failed_before() {
    let held = Held::new().await;
    let journal = Arc::new(held.store.sagas());
    let sagas = vec![saga(&Arc::default(), &Arc::default())];
    let settings = Settings::default();
    let engine = Engine::new(Plain, journal, Env::system(), sagas, settings).unwrap();
    held.disk.broken.store(true, Ordering::SeqCst);
    held.commit("lost").await.unwrap().unwrap_err();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let runs = engine.clone();
    let running = spawn(async move { runs.run(stopped.map(drop)).await });
    for key in ["1", "2"] {
        let refused = engine.start("order", key, &(), Begin::flow(key)).await;
        assert_eq!(refused.unwrap_err().code(), "store_sync_failed");
    }
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

fn code(error: &Error) -> (&str, Retry) {
    (error.code(), error.retry())
}
