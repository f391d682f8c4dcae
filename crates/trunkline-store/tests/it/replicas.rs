//! A service that runs twice on one schema: each replica is a store with connections of its own.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, join_all};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use trunkline_bus::memory::Memory;
use trunkline_bus::{
    Change, Consumer, ConsumerConfig, ConsumerPorts, DeadLetter, DeadLetterQuery, Handler, Outcome,
    ReplayRequest, Transport,
};
use trunkline_core::{Env, Envelope, Error, ErrorKind, Priority};
use trunkline_store::{Begin, Engine, Store, StoreConfig, StoredResponse, body_hash, is_away};
use trunkline_telemetry::{Check, Telemetry};
use trunkline_testkit::postgres::Postgres;
use trunkline_testkit::{Expected, History, event, eventually, numbered};

use crate::common::{LIMIT, NOTES, Place, bus, notes, on_both_engines, relay, sent_ids};

on_both_engines!(
    one_replays_at_a_time,
    a_key_is_used_in_one_replica,
    an_event_is_first_in_one_replica,
    a_job_runs_in_one_replica,
);

async fn two(place: &Place) -> [Store; 2] {
    let both = join_all([place.open(), place.open()]).await;
    both.try_into().unwrap()
}

async fn one_replays_at_a_time(place: Place) {
    let [a, b] = two(&place).await.map(|store| store.parking_lot());
    let mut held = a.reserve("g").await.unwrap().unwrap();
    held.check().await.unwrap();
    assert!(b.reserve("g").await.unwrap().is_none());
    assert!(a.reserve("g").await.unwrap().is_none());
    assert!(b.reserve("other").await.unwrap().is_some());
    drop(held);
    assert!(b.reserve("g").await.unwrap().is_some());
}

async fn a_key_is_used_in_one_replica(place: Place) {
    let stores = two(&place).await;
    let body = body_hash(b"{}");
    let begun = stores.each_ref().map(|store| {
        let keys = store.idempotency();
        async move { keys.begin("orders", "k", body).await.unwrap() }
    });
    let begun = join_all(begun).await;
    let at = begun.iter().position(|one| *one == Begin::Started).unwrap();
    assert_eq!(begun[1 - at], Begin::Running);
    let answer = StoredResponse {
        status: 201,
        headers: Vec::new(),
        body: b"done".to_vec(),
    };
    // The other replica has not taken the key, and can't answer for it.
    let mut tx = stores[1 - at].begin().await.unwrap();
    let lost = tx.complete_idempotent("orders", "k", &answer).await;
    assert_eq!(lost.unwrap_err().kind(), ErrorKind::Conflict);
    drop(tx);
    let mut tx = stores[at].begin().await.unwrap();
    tx.complete_idempotent("orders", "k", &answer)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    for store in &stores {
        let again = store.idempotency().begin("orders", "k", body).await;
        assert_eq!(again.unwrap(), Begin::Replay(answer.clone()));
    }
}

async fn an_event_is_first_in_one_replica(place: Place) {
    let stores = two(&place).await;
    let firsts = (0..20).map(|n| {
        let store = &stores[n % 2];
        async move {
            let mut tx = store.begin().await.unwrap();
            let first = tx.first_time("g", "e").await.unwrap();
            tx.commit().await.unwrap();
            usize::from(first)
        }
    });
    assert_eq!(join_all(firsts).await.iter().sum::<usize>(), 1);
}

async fn a_job_runs_in_one_replica(place: Place) {
    let stores = two(&place).await;
    let now = Env::system().now();
    let lease = Duration::from_secs(300);
    for store in &stores {
        store.jobs().declare("nightly", now).await.unwrap();
    }
    let claims = stores
        .each_ref()
        .map(|store| async { store.jobs().claim("nightly", lease).await.unwrap() });
    let mut claims = join_all(claims).await;
    let at = claims.iter().position(Option::is_some).unwrap();
    assert!(claims[1 - at].is_none());
    // The other one looks again long before the lease ends: the run will have ended by then.
    let look = stores[1 - at].jobs().next_due(&["nightly"]).await.unwrap();
    let soon = now.checked_add(Duration::from_secs(60)).unwrap();
    assert!(look.unwrap() > now && look.unwrap() < soon);
    let run = claims.swap_remove(at).unwrap();
    let tomorrow = now.checked_add(Duration::from_secs(86_400)).unwrap();
    stores[at].jobs().finish(&run, tomorrow).await.unwrap();
    for store in &stores {
        assert!(
            store
                .jobs()
                .claim("nightly", lease)
                .await
                .unwrap()
                .is_none()
        );
    }
}

fn letter(key: &str, n: usize, error: Option<&str>) -> DeadLetter {
    DeadLetter {
        id: Env::system().id().to_string().into(),
        group: "g".into(),
        key: key.into(),
        envelope: numbered("t", key, n),
        original: None,
        error: error.map(str::to_owned),
        code: None,
        retry: None,
        attempts: 1,
        replays: 0,
        recoveries: 0,
        parked_at: Env::system().now(),
        failed_at: None,
        decided_at: None,
        retry_at: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_in_one_replica_is_heard_in_the_other() {
    let place = Place::new(Engine::Postgres);
    let [a, b] = two(&place).await.map(|store| store.parking_lot());
    let mut changes = b.changes();
    assert!(changes.is_shared());
    // Once it listens, it knows that it does not know what was before.
    let first = tokio::time::timeout(LIMIT, changes.next()).await.unwrap();
    assert_eq!(first, Change::Unknown);
    let parked = letter("a\0\"", 0, Some("refused"));
    a.park(std::slice::from_ref(&parked)).await.unwrap();
    let (group, key) = (parked.group.clone(), parked.key.clone());
    let heard = tokio::time::timeout(LIMIT, changes.next()).await.unwrap();
    assert_eq!(heard, Change::Parked { group, key });
    let among = ["b".into(), parked.key.clone()];
    let found = b.parked_keys("g", Some(&among)).await.unwrap();
    assert_eq!(found, std::slice::from_ref(&parked.key));
    a.remove(&parked.id).await.unwrap();
    let (group, key) = (parked.group, parked.key);
    let heard = tokio::time::timeout(LIMIT, changes.next()).await.unwrap();
    assert_eq!(heard, Change::Freed { group, key });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_kept_behind_a_letter_that_goes_at_the_same_moment() {
    let place = Place::new(Engine::Postgres);
    let [a, b] = two(&place).await.map(|store| store.parking_lot());
    let (mut kept, mut refused) = (0, 0);
    let mut rng = StdRng::seed_from_u64(7);
    for n in 0..150 {
        let key = format!("k{n}");
        let first = letter(&key, 0, Some("refused"));
        a.park(std::slice::from_ref(&first)).await.unwrap();
        let query = DeadLetterQuery {
            key: Some(key.as_str().into()),
            ..DeadLetterQuery::default()
        };
        let behind = [letter(&key, 1, None)];
        // Either is first now and then, whatever the machine does.
        let late = |odd| Duration::from_millis(if n % 3 == odd { 10 } else { 0 });
        let jitter = Duration::from_micros(rng.random_range(0..1500));
        let replay = async {
            tokio::time::sleep(late(1) + jitter).await;
            a.remove(&first.id).await.unwrap();
            // What is behind it is there by now, or never.
            a.list(&query).await.unwrap().len()
        };
        let parks = async {
            tokio::time::sleep(late(2)).await;
            b.park(&behind).await
        };
        let (left, free) = tokio::join!(replay, parks);
        let free = free.unwrap();
        assert_eq!(left, usize::from(free.is_empty()), "round {n}");
        assert_eq!(a.list(&query).await.unwrap().len(), left);
        kept += left;
        refused += free.len();
    }
    assert!(kept > 5 && refused > 5, "{kept} kept, {refused} refused");
}

/// A handler that records, and fails now and then until it is healed.
struct Worker {
    history: Arc<History>,
    dice: Mutex<StdRng>,
    healed: AtomicBool,
}

impl Handler for Worker {
    fn handle<'a>(&'a self, batch: &'a [Envelope], _: u32) -> BoxFuture<'a, Vec<Outcome>> {
        async move {
            let event = &batch[0];
            let (fate, millis) = {
                let mut dice = self.dice.lock();
                (dice.random::<f64>(), dice.random_range(0..4))
            };
            self.history.began("g", event);
            tokio::time::sleep(Duration::from_millis(millis)).await;
            let outcome = match fate {
                _ if self.healed.load(Ordering::Relaxed) => Outcome::Done,
                fate if fate < 0.03 => Outcome::Failed(Error::invalid("refused", "never")),
                fate if fate < 0.10 => Outcome::Failed(Error::unavailable("busy", "not now")),
                _ => Outcome::Done,
            };
            let done = matches!(outcome, Outcome::Done);
            self.history.ended("g", event, done);
            vec![outcome]
        }
        .boxed()
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

async fn join(store: &Store, bus: &Arc<Memory>, handler: &Arc<Worker>) -> Consumer {
    let mut config = ConsumerConfig::new("g").topic("t", &[Priority::Medium]);
    config.retry.initial = Duration::from_millis(10);
    let ports = ConsumerPorts {
        transport: bus.clone(),
        handler: handler.clone(),
        lot: store.parking_lot(),
        telemetry: Telemetry::disabled(Env::system()),
        env: Env::system(),
    };
    Consumer::start(config, ports).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_in_two_processes_keep_each_keys_order() {
    const KEYS: usize = 12;
    const EVENTS: usize = 60;
    let place = Place::new(Engine::Postgres);
    let stores = two(&place).await;
    let bus = bus().await;
    let handler = Arc::new(Worker {
        history: Arc::new(History::new()),
        dice: Mutex::new(StdRng::seed_from_u64(11)),
        healed: AtomicBool::new(false),
    });
    let mut members = Vec::new();
    for n in 0..3 {
        members.push(join(&stores[n % 2], &bus, &handler).await);
    }
    let publishing = async {
        for n in 0..EVENTS {
            let events: Vec<_> = (0..KEYS)
                .map(|key| numbered("t", &format!("k{key}"), n))
                .collect();
            events.iter().for_each(|one| handler.history.published(one));
            bus.publish(&events).await.unwrap();
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    let stirring = async {
        let mut rng = StdRng::seed_from_u64(12);
        for _ in 0..24 {
            tokio::time::sleep(Duration::from_millis(rng.random_range(5..80))).await;
            let at = rng.random_range(0..members.len());
            if rng.random_bool(0.5) {
                match members[at].replay(ReplayRequest::default()).await {
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                    Ok(report) => assert!(!report.dry_run),
                }
            } else {
                members[at].drain(LIMIT).await.unwrap();
                members[at] = join(&stores[rng.random_range(0..2)], &bus, &handler).await;
            }
        }
    };
    tokio::join!(publishing, stirring);
    handler.healed.store(true, Ordering::Relaxed);
    let settled = async || {
        let request = ReplayRequest {
            force: true,
            ..ReplayRequest::default()
        };
        members[0].replay(request).await.unwrap();
        let left = members[1].dead_letters(DeadLetterQuery::default());
        handler.history.handled("g") == KEYS * EVENTS && left.await.unwrap().is_empty()
    };
    eventually(LIMIT, settled).await;
    let expected = Expected::exactly_once(&["g"]);
    handler.history.assert(&expected);
}

/// What the writers share.
#[derive(Default)]
struct Writing {
    stop: AtomicBool,
    /// The server was killed and is not started again yet.
    down: AtomicBool,
    written: AtomicUsize,
    failed: AtomicUsize,
}

/// Commits events of its own key, one after the other, through both replicas by turns, until it shall
/// stop; says how many. A commit that was in doubt is found by its note.
async fn write(stores: [Store; 2], key: usize, writing: Arc<Writing>) -> usize {
    let mut count = 0;
    while !writing.stop.load(Ordering::Relaxed) {
        let id = format!("k{key}/{count}");
        match write_one(&stores[count % 2], key, &id).await {
            Err(error) if error.code() != "row_exists" => {
                // Who waited while the server came back may find its connections taken.
                let crowded = !writing.down.load(Ordering::SeqCst) && error.code() == "store_busy";
                assert!(is_away(&error) || crowded, "{error:?} is no event's fault");
                writing.failed.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(30)).await;
                continue;
            }
            _ => count += 1,
        }
        writing.written.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    count
}

async fn write_one(store: &Store, key: usize, id: &str) -> trunkline_core::Result<()> {
    let mut tx = store.begin().await?;
    trunkline_store::sqlx::query("INSERT INTO note (name, value) VALUES ($1, 1)")
        .bind(id)
        .execute(tx.conn())
        .await
        .map_err(trunkline_store::sql_error)?;
    tx.publish(event("t", &format!("k{key}"), id, "1")).await?;
    tx.commit().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_loses_and_reorders_nothing_and_the_replicas_recover() {
    const WRITERS: usize = 6;
    let server = Postgres::start();
    let url = server.schema_url("replicas");
    let open = async || {
        let mut config = StoreConfig::new(format!("{url}&pool=4"), "test-service");
        config.acquire_timeout = Duration::from_millis(700);
        Store::open_with(config, Env::system()).await.unwrap()
    };
    let stores = [open().await, open().await];
    stores[0].migrate(NOTES).await.unwrap();
    let bus = bus().await;
    let mut relays = stores.each_ref().map(|store| relay(store, bus.clone()));
    let mut writers = JoinSet::new();
    let writing = Arc::new(Writing::default());
    for key in 0..WRITERS {
        let work = write(stores.clone(), key, writing.clone());
        writers.spawn(async move { (key, work.await) });
    }
    let more = async |counter: &AtomicUsize, than: usize| {
        let before = counter.load(Ordering::Relaxed);
        let come = async || counter.load(Ordering::Relaxed) >= before + than;
        eventually(LIMIT, come).await;
    };
    for _ in 0..2 {
        more(&writing.written, 150).await;
        server.kill();
        writing.down.store(true, Ordering::SeqCst);
        let down = async || Check::check(&stores[0]).await.is_err();
        eventually(LIMIT, down).await;
        // Long enough for those who wait for a connection to give up.
        more(&writing.failed, WRITERS * 2).await;
        writing.down.store(false, Ordering::SeqCst);
        server.restart();
        let up = async || Check::check(&stores[0]).await.is_ok();
        eventually(LIMIT, up).await;
        // The one that leads dies as well, in the middle of it.
        more(&writing.written, 100).await;
        let leading = async || {
            let states = join_all(relays.iter().map(trunkline_store::Relay::status)).await;
            let leads = |one: &Result<_, _>| {
                matches!(one, Ok(trunkline_store::RelayStatus { leading: true, .. }))
            };
            states.iter().position(leads)
        };
        eventually(LIMIT, async || leading().await.is_some()).await;
        if let Some(at) = leading().await {
            relays[at] = relay(&stores[at], bus.clone());
        }
    }
    more(&writing.written, 100).await;
    writing.stop.store(true, Ordering::Relaxed);
    let counts: HashMap<usize, usize> = writers.join_all().await.into_iter().collect();
    let all: usize = counts.values().sum();
    assert_eq!(notes(&stores[1]).await, i64::try_from(all).unwrap());
    assert!(relays[0].drain(LIMIT).await, "all is sent");
    let well =
        async || Check::check(&relays[0]).await.is_ok() && Check::check(&relays[1]).await.is_ok();
    eventually(LIMIT, well).await;
    let mut next: HashMap<String, usize> = HashMap::new();
    for id in sent_ids(&bus).await {
        let (key, n) = id.split_once('/').unwrap();
        let due = next.entry(key.to_owned()).or_default();
        assert_eq!(n.parse::<usize>().unwrap(), *due, "of {key}");
        *due += 1;
    }
    for (key, count) in counts {
        assert_eq!(
            next.get(&format!("k{key}")),
            Some(&count),
            "nothing is lost"
        );
    }
}
