//! Whatever the transport does, within its contract, and whatever the handler does: each key is handled
//! in order, by one at a time, and nothing is lost.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use trunkline_bus::memory::Memory;
use trunkline_bus::{Consumer, ConsumerConfig, Outcome, ReplayRequest, Transport};
use trunkline_core::{Env, Envelope, Priority};
use trunkline_testkit::{Expected, Faulty, Plan, eventually, numbered};

use crate::support::{FullLot, LIMIT, Rig, busy, refused};

const SEEDS: u64 = 64;
const KEYS: usize = 12;
const EVENTS: usize = 15;

fn config(seed: u64) -> ConsumerConfig {
    let mut config = ConsumerConfig::new("g").topic("t", &[Priority::Medium]);
    config.batch_max = [1, 4, 32][usize::try_from(seed % 3).unwrap()];
    config.handlers_max = [1, 4, 16][usize::try_from(seed / 3 % 3).unwrap()];
    (config.in_flight_max, config.held_max) = if seed.is_multiple_of(2) {
        (8, 8)
    } else {
        (64, 256)
    };
    config
}

/// Fails one event in ten for a while, and one in fifty for good until healed.
async fn start(rig: &Rig, seed: u64, healed: bool) -> Consumer {
    let rng = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
    rig.start(config(seed), move |_, _| {
        let mut dice = rng.lock();
        let (fate, pause) = (dice.random::<f64>(), dice.random_range(0..20));
        drop(dice);
        async move {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            match fate {
                _ if healed => Outcome::Done,
                fate if fate < 0.02 => refused(),
                fate if fate < 0.12 => busy(),
                fate if fate < 0.13 => panic!("now and then"),
                _ => Outcome::Done,
            }
        }
    })
    .await
}

async fn publish_all(rig: &Rig, transport: &Faulty<Memory>) {
    for n in 0..EVENTS {
        let events: Vec<Envelope> = (0..KEYS)
            .map(|key| numbered("t", &format!("k{key}"), n))
            .collect();
        events.iter().for_each(|event| rig.history.published(event));
        // As the relay does: again until it is accepted, though it may have been before.
        while transport.publish(&events).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

async fn run(seed: u64) {
    let env = Env::seeded(seed);
    let faulty = Faulty::new(Memory::new(env.clone()), Plan::everything(seed));
    faulty.set_active(false);
    let mut rig = Rig::over(Arc::new(faulty.clone()), env).await;
    rig.lot = Arc::new(FullLot::new(usize::try_from(seed % 4).unwrap()));
    faulty.set_active(true);
    let first = start(&rig, seed, false).await;
    let publishing = async {
        publish_all(&rig, &faulty).await;
    };
    let restarting = async {
        tokio::time::sleep(Duration::from_millis(200 + seed * 7)).await;
        drop(first.drain(Duration::from_millis(5)).await);
        start(&rig, seed + 1_000, false).await
    };
    let ((), second) = tokio::join!(publishing, restarting);
    // Every event is handled or a letter, and no key waits any more.
    let settled = async || {
        let status = second.status().await.unwrap();
        status.lag == Some(0)
            && status.queued == 0
            && status.in_flight == 0
            && rig.history.handled("g") + rig.letters().await.len() >= KEYS * EVENTS
    };
    eventually(Duration::from_secs(600), settled).await;
    second.drain(Duration::from_secs(60)).await.unwrap();
    faulty.set_active(false);
    let healed = start(&rig, seed, true).await;
    let report = healed.replay(ReplayRequest::default()).await.unwrap();
    assert_eq!((report.failed, report.refused), (0, 0));
    eventually(LIMIT, async || rig.history.handled("g") == KEYS * EVENTS).await;
    assert!(rig.letters().await.is_empty());
    // A subscription that breaks within a batch of 32 takes all of it with it, and breaks often.
    rig.history
        .assert(&Expected::exactly_once(&["g"]).with_duplicates(KEYS * EVENTS * 8));
}

#[test]
fn nothing_is_lost_or_out_of_order_under_faults() {
    for seed in 0..SEEDS {
        eprintln!("seed {seed}");
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(run(seed));
    }
}
