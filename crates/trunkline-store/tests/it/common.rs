//! Opening stores for tests, and looking into them.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Row;
use tempfile::TempDir;
use trunkline_bus::memory::Memory;
use trunkline_bus::{Start, Subscribe, Transport};
use trunkline_core::{Env, Envelope};
use trunkline_store::{Engine, Migration, Relay, Store, StoreConfig, sqlx};
use trunkline_telemetry::Telemetry;
use trunkline_testkit::postgres::Postgres;

/// Long enough for anything that will happen at all.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Where a test's store is: it may be opened again.
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) folder: Option<TempDir>,
}

impl Place {
    pub(crate) fn new(engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite:{}", folder.path().join("data/store.db").display());
                Self {
                    url,
                    folder: Some(folder),
                }
            }
            Engine::Postgres => {
                let url = Postgres::shared().schema_url("t");
                Self {
                    url: format!("{url}&pool=70"),
                    folder: None,
                }
            }
        }
    }

    pub(crate) async fn open(&self) -> Store {
        self.open_with(|_| {}).await
    }

    pub(crate) async fn open_with(&self, set: impl FnOnce(&mut StoreConfig)) -> Store {
        let mut config = StoreConfig::new(self.url.as_str(), "test-service");
        set(&mut config);
        Store::open_with(config, Env::system()).await.unwrap()
    }
}

/// Runs each test on both engines.
macro_rules! on_both_engines {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::common::Place::new(trunkline_store::Engine::Sqlite)).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::common::Place::new(trunkline_store::Engine::Postgres)).await;
            })+
        }
    };
}
pub(crate) use on_both_engines;

pub(crate) const NOTES: &[Migration] = &[Migration {
    name: "0001_notes",
    sql: "CREATE TABLE note (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
          CREATE INDEX note_by_value ON note (value)",
}];

/// How many notes there are.
pub(crate) async fn notes(store: &Store) -> i64 {
    count(store, "SELECT COUNT(*) FROM note").await
}

pub(crate) async fn count(store: &Store, sql: &'static str) -> i64 {
    let mut reader = store.read().await.unwrap();
    sqlx::query(sql)
        .fetch_one(reader.conn())
        .await
        .unwrap()
        .try_get(0)
        .unwrap()
}

/// A bus in memory with one topic, `t`, with its lanes.
pub(crate) async fn bus() -> Arc<Memory> {
    let bus = Memory::new(Env::system());
    bus.declare(&trunkline_bus::lanes(&trunkline_testkit::topic("t", 4)))
        .await
        .unwrap();
    Arc::new(bus)
}

pub(crate) fn relay(store: &Store, bus: Arc<dyn Transport>) -> Relay {
    Relay::start(
        store.clone(),
        bus,
        Telemetry::disabled(Env::system()),
        Env::system(),
    )
}

/// Everything that is on the bus now, in the order of each partition.
pub(crate) async fn sent(bus: &Memory) -> Vec<Envelope> {
    let topics = ["t", "t.high", "t.low"].map(Into::into).to_vec();
    let spec = Subscribe {
        topics,
        group: None,
        start: Start::Earliest,
        in_flight_max: 1_000_000,
    };
    let mut subscription = bus.subscribe(&spec).await.unwrap();
    let mut sent = Vec::new();
    // What is there comes at once; the pause only ends the reading.
    while let Ok(batch) =
        tokio::time::timeout(Duration::from_millis(100), subscription.next(10_000)).await
    {
        for delivery in batch.unwrap() {
            sent.push(delivery.envelope);
            delivery.receipt.ack();
        }
    }
    sent
}

/// The ids of what is on the bus, each once, in the order of its first time.
pub(crate) async fn sent_ids(bus: &Memory) -> Vec<String> {
    let mut ids = Vec::new();
    for event in sent(bus).await {
        let id = event.id.to_string();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}
