//! Servers that are killed, paused or cut off while events flow. Only engines with a server have these cases.

use std::collections::HashMap;
use std::ops::AsyncFnOnce;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use trunkline_bus::{Start, Transport};
use trunkline_core::{ErrorKind, Retry};

use super::bench::{Bench, spec};
use super::{Breakable, Case, case};
use crate::{Expected, History, eventually, numbered};

pub(super) fn all() -> Vec<Case> {
    vec![
        case!(a_killed_server_loses_nothing),
        case!(a_paused_server_loses_nothing),
        case!(a_connection_cut_in_a_batch_loses_nothing),
        case!(no_call_waits_for_ever_on_a_paused_server),
    ]
}

const KEYS: usize = 8;
const PUBLISHERS: usize = 2;
const MEMBERS: usize = 2;
/// Long enough for a server to come up, and for who waited to notice.
const LIMIT: Duration = Duration::from_secs(60);
/// A call that has not answered by then waits for ever.
const CALL_MAX: Duration = Duration::from_secs(30);
/// How often an event may come again, for each time that something breaks: all that was out, in each member, and all
/// that was published without an answer.
const AGAIN_MAX: usize = 2_000;

async fn a_killed_server_loses_nothing(bench: Bench) {
    under_load(bench, async |load| {
        for _ in 0..2 {
            load.goes_on().await;
            load.blocking(|server| server.kill()).await;
            load.blocking(|server| server.restart()).await;
        }
    })
    .await;
}

async fn a_paused_server_loses_nothing(bench: Bench) {
    under_load(bench, async |load| {
        load.goes_on().await;
        load.blocking(|server| server.pause()).await;
        // As long as it is looked at it stands still; that is the fault itself.
        sleep(Duration::from_secs(3)).await;
        load.blocking(|server| server.resume()).await;
    })
    .await;
}

async fn a_connection_cut_in_a_batch_loses_nothing(bench: Bench) {
    under_load(bench, async |load| {
        for bytes in [1, 70, 700, 3_000, 10_000, 30_000] {
            load.goes_on().await;
            load.blocking(move |server| server.cut_after(bytes)).await;
        }
    })
    .await;
}

async fn no_call_waits_for_ever_on_a_paused_server(bench: Bench) {
    bench.declare("t", 1).await;
    let member = bench.group("t", "g").await;
    let server = bench.server();
    server.pause();
    let published = timeout(CALL_MAX, bench.transport.publish(&[numbered("t", "k", 0)])).await;
    let lag = timeout(CALL_MAX, member.lag()).await;
    let spec = spec("t", Some("other"), Start::Committed);
    let joined = timeout(CALL_MAX, bench.transport.subscribe(&spec)).await;
    server.resume();
    let refused = published.expect("publishing has a limit");
    let refused = refused.expect_err("nothing was confirmed");
    assert_eq!(refused.accepted, 0);
    assert_ne!(refused.error.retry(), Retry::Permanent, "{}", refused.error);
    for error in [
        lag.expect("asking for the lag has a limit").err(),
        joined.expect("subscribing has a limit").err(),
    ] {
        let kind = error.expect("nobody answered").kind();
        let expected = [ErrorKind::Unavailable, ErrorKind::DeadlineExceeded];
        assert!(expected.contains(&kind), "{kind:?}");
    }
    // It goes on as if nothing had been.
    eventually(LIMIT, async || {
        bench
            .transport
            .publish(&[numbered("t", "k", 1)])
            .await
            .is_ok()
    })
    .await;
}

/// Publishers and members at work.
struct Load {
    bench: Arc<Bench>,
    history: Arc<History>,
    stops: AtomicBool,
}

impl Load {
    /// Waits until events flow.
    async fn goes_on(&self) {
        let before = self.history.handled("g");
        eventually(LIMIT, async || self.history.handled("g") >= before + 50).await;
    }

    /// Does something to the server, away from the runtime.
    async fn blocking(&self, work: impl FnOnce(&dyn Breakable) + Send + 'static) {
        let bench = self.bench.clone();
        let done = tokio::task::spawn_blocking(move || work(bench.server())).await;
        done.expect("the server does what it is told");
    }
}

/// Publishes and handles while `breaks` breaks things, and judges what came of it.
async fn under_load(bench: Bench, breaks: impl AsyncFnOnce(&Load)) {
    bench.declare("t", 4).await;
    let load = Arc::new(Load {
        bench: Arc::new(bench),
        history: Arc::default(),
        stops: AtomicBool::new(false),
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
    let mut published = 0;
    while let Some(count) = publishers.join_next().await {
        published += count.expect("a publisher ends well");
    }
    eventually(LIMIT, async || {
        // One that failed says why, instead of the others waiting for it.
        while let Some(ended) = members.try_join_next() {
            ended.expect("a member ends well");
        }
        load.history.handled("g") >= published
    })
    .await;
    let expected = Expected::exactly_once(&["g"]).with_duplicates(AGAIN_MAX);
    load.history.assert(&expected);
    members.shutdown().await;
}

/// Publishes batches of its own keys, each until it is confirmed; the count of events.
async fn publish(load: Arc<Load>, publisher: usize) -> usize {
    let keys: Vec<String> = (0..KEYS)
        .filter(|key| key % PUBLISHERS == publisher)
        .map(|key| format!("k{key}"))
        .collect();
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut published = 0;
    while !load.stops.load(Ordering::SeqCst) {
        let mut batch = Vec::new();
        for key in keys.iter().flat_map(|key| [key, key]) {
            let number = numbers.entry(key).or_default();
            batch.push(numbered("t", key, *number));
            *number += 1;
        }
        // What comes before its confirmation has been published all the same.
        batch.iter().for_each(|event| load.history.published(event));
        published += batch.len();
        send(&*load.bench.transport, &batch).await;
    }
    published
}

/// Publishes what is left of a batch again until all of it is confirmed.
async fn send(transport: &dyn Transport, batch: &[trunkline_core::Envelope]) {
    let until = Instant::now() + LIMIT;
    let mut rest = batch;
    while !rest.is_empty() {
        let answer = timeout(CALL_MAX, transport.publish(rest)).await;
        match answer.expect("publishing has a limit") {
            Ok(()) => return,
            Err(refused) => {
                assert_ne!(refused.error.retry(), Retry::Permanent, "{}", refused.error);
                assert!(
                    Instant::now() < until,
                    "it does not recover: {}",
                    refused.error
                );
                rest = rest.get(refused.accepted..).unwrap_or_default();
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Handles events; joins again when its subscription breaks.
async fn consume(load: Arc<Load>) {
    let spec = spec("t", Some("g"), Start::Committed);
    let mut failing_since = None;
    loop {
        let joined = timeout(CALL_MAX, load.bench.transport.subscribe(&spec)).await;
        match joined.expect("subscribing has a limit") {
            Err(error) => {
                let since = *failing_since.get_or_insert_with(Instant::now);
                assert!(since.elapsed() < LIMIT, "it does not recover: {error}");
                sleep(Duration::from_millis(20)).await;
            }
            Ok(mut member) => {
                failing_since = None;
                while let Ok(deliveries) = member.next(20).await {
                    assert!(!deliveries.is_empty(), "nobody closed the transport");
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
        }
    }
}
