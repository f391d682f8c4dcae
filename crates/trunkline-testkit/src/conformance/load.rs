//! What has to hold while events flow: publishers and members at work, and something happens to them.

use std::collections::HashMap;
use std::ops::AsyncFnOnce;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use trunkline_bus::{Start, Subscription, Transport};
use trunkline_core::{Env, Envelope, Retry, Timestamp};

use super::bench::{Bench, comes, spec};
use super::{Case, case};
use crate::{Expected, History, eventually, numbered};

pub(super) fn all() -> Vec<Case> {
    vec![
        case!(members_come_and_go_and_nothing_is_lost, needs groups),
        case!(a_clock_that_jumps_loses_nothing, needs groups),
        case!(a_shutdown_under_load_loses_nothing, needs durable),
    ]
}

const KEYS: usize = 8;
const PUBLISHERS: usize = 2;
const MEMBERS: usize = 2;
/// So many events wait at most; the publishers wait meanwhile.
const BEHIND_MAX: usize = 400;
/// Before what failed is tried again.
const PAUSE: Duration = Duration::from_millis(10);
/// Long enough for a server to come up, and for who waited to notice.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// A call that has not answered by then waits for ever.
const CALL_MAX: Duration = Duration::from_secs(30);
/// How often events may come again in all: what was out or unanswered each time that something broke.
const AGAIN_MAX: usize = 2_000;

async fn members_come_and_go_and_nothing_is_lost(bench: Bench) {
    under_load(bench, async |load| {
        for round in 0..6 {
            load.goes_on().await;
            // A third member takes some, handles a part of it, and goes with the rest.
            let (transport, spec) = (load.transport(), spec("t", Some("g"), Start::Committed));
            let mut guest = transport.subscribe(&spec).await.expect("a member joins");
            let taken = timeout(Duration::from_secs(1), guest.next(10)).await;
            let taken = taken.map_or_else(|_| Vec::new(), |taken| taken.expect("deliveries come"));
            for (n, delivery) in taken.into_iter().enumerate() {
                if n < 3 && delivery.receipt.begin() {
                    load.history.began("g", &delivery.envelope);
                    // One that fails is not done, and what comes after it waits.
                    let is_done = round % 2 == 0;
                    load.history.ended("g", &delivery.envelope, is_done);
                    if is_done {
                        delivery.receipt.ack();
                        continue;
                    }
                }
                break;
            }
        }
    })
    .await;
}

async fn a_clock_that_jumps_loses_nothing(bench: Bench) {
    let ahead = Arc::new(AtomicI64::new(0));
    let clock = ahead.clone();
    let env = Env::seeded_with_clock(Env::system().random_u64(), move || {
        let seconds = jiff::SignedDuration::from_secs(clock.load(Ordering::SeqCst));
        Timestamp::now()
            .checked_add(seconds)
            .unwrap_or(Timestamp::MAX)
    });
    let bench = bench.with_env(env).await;
    under_load(bench, async |load| {
        for hours in [2, -3, 0] {
            load.goes_on().await;
            ahead.store(hours * 3_600, Ordering::SeqCst);
        }
    })
    .await;
}

async fn a_shutdown_under_load_loses_nothing(bench: Bench) {
    under_load(bench, async |load| {
        for _ in 0..3 {
            load.goes_on().await;
            load.transport().close().await.expect("it closes");
            let opened = load.bench.open_again().await;
            *load.transport.lock() = opened;
        }
    })
    .await;
}

/// Publishers and members at work.
pub(super) struct Load {
    bench: Arc<Bench>,
    /// Another one after a shutdown.
    transport: Mutex<Arc<dyn Transport>>,
    history: Arc<History>,
    /// Events that were given to the transport.
    published: AtomicUsize,
    stops: AtomicBool,
    /// Long enough for a server to come up, and for who waited to notice.
    limit: Duration,
}

impl Load {
    pub(super) fn bench(&self) -> Arc<Bench> {
        self.bench.clone()
    }

    /// Waits until events flow.
    pub(super) async fn goes_on(&self) {
        let before = self.history.handled("g");
        eventually(self.limit, async || {
            self.history.handled("g") >= before + 50
        })
        .await;
    }

    fn transport(&self) -> Arc<dyn Transport> {
        self.transport.lock().clone()
    }

    fn behind(&self) -> usize {
        let published = self.published.load(Ordering::SeqCst);
        published.saturating_sub(self.history.handled("g"))
    }
}

/// Publishes and handles while `breaks` breaks things, and judges what came of it.
pub(super) async fn under_load(bench: Bench, breaks: impl AsyncFnOnce(&Load)) {
    bench.declare("t", 4).await;
    let load = Arc::new(Load {
        transport: Mutex::new(bench.transport.clone()),
        bench: Arc::new(bench),
        history: Arc::default(),
        published: AtomicUsize::new(0),
        stops: AtomicBool::new(false),
        limit: LIMIT.min(comes() * 3),
    });
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        publishers.spawn(publish(load.clone(), publisher));
    }
    let mut members = JoinSet::new();
    for _ in 0..MEMBERS {
        members.spawn(consume(load.clone()));
    }
    breaks(&load).await;
    load.goes_on().await;
    load.stops.store(true, Ordering::SeqCst);
    while let Some(ended) = publishers.join_next().await {
        ended.expect("a publisher ends well");
    }
    eventually(load.limit, async || {
        // One that failed says why, instead of the others waiting for it.
        while let Some(ended) = members.try_join_next() {
            ended.expect("a member ends well");
        }
        load.behind() == 0
    })
    .await;
    members.shutdown().await;
    let expected = Expected::exactly_once(&["g"]).with_duplicates(AGAIN_MAX);
    load.history.assert(&expected);
}

/// Publishes batches of its own keys, each until it is confirmed.
async fn publish(load: Arc<Load>, publisher: usize) {
    let keys: Vec<String> = (0..KEYS)
        .filter(|key| key % PUBLISHERS == publisher)
        .map(|key| format!("k{key}"))
        .collect();
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    while !load.stops.load(Ordering::SeqCst) {
        if load.behind() > BEHIND_MAX {
            sleep(PAUSE).await;
            continue;
        }
        let mut batch = Vec::new();
        for key in keys.iter().flat_map(|key| [key, key]) {
            let number = numbers.entry(key).or_default();
            batch.push(numbered("t", key, *number));
            *number += 1;
        }
        // What comes before its confirmation has been published all the same.
        batch.iter().for_each(|event| load.history.published(event));
        load.published.fetch_add(batch.len(), Ordering::SeqCst);
        send(&load, &batch).await;
    }
}

/// Publishes what is left of a batch again until all of it is confirmed.
async fn send(load: &Load, batch: &[Envelope]) {
    let until = Instant::now() + load.limit;
    let mut rest = batch;
    while !rest.is_empty() {
        let transport = load.transport();
        let answer = timeout(CALL_MAX, transport.publish(rest)).await;
        match answer.expect("publishing has a limit") {
            Ok(()) => return,
            Err(refused) => {
                let error = refused.error;
                assert_ne!(error.retry(), Retry::Permanent, "{error}");
                assert!(Instant::now() < until, "it does not recover: {error}");
                rest = rest.get(refused.accepted..).unwrap_or_default();
                sleep(PAUSE).await;
            }
        }
    }
}

/// Handles events; joins again when its subscription ends.
async fn consume(load: Arc<Load>) {
    let spec = spec("t", Some("g"), Start::Committed);
    let mut failing_since = None;
    loop {
        let transport = load.transport();
        let joined = timeout(CALL_MAX, transport.subscribe(&spec)).await;
        match joined.expect("subscribing has a limit") {
            Err(error) => {
                let since = *failing_since.get_or_insert_with(Instant::now);
                assert!(since.elapsed() < load.limit, "it does not recover: {error}");
                sleep(PAUSE).await;
            }
            Ok(mut member) => {
                failing_since = None;
                handle(&load, &mut *member).await;
            }
        }
    }
}

async fn handle(load: &Load, member: &mut dyn Subscription) {
    while let Ok(deliveries) = member.next(20).await {
        if deliveries.is_empty() {
            return;
        }
        for delivery in deliveries {
            if !delivery.receipt.begin() {
                continue;
            }
            load.history.began("g", &delivery.envelope);
            tokio::task::yield_now().await;
            load.history.ended("g", &delivery.envelope, true);
            delivery.receipt.ack();
        }
    }
}
