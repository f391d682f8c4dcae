//! Half of a target's instances are bad, on real sockets: what a caller sees, what load the bad ones get, and how soon all
//! get calls again once they are well.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use trunkline_call::balance::Balance;
use trunkline_call::discovery::Fixed;
use trunkline_call::layer::{BreakerState, Event};
use trunkline_call::policy::Policies;
use trunkline_call::{Client, Network, Responses};
use trunkline_core::{Context, Env, report};
use trunkline_telemetry::Telemetry;

use crate::sick::{Fault, Sick};

const RESET: Duration = Duration::from_millis(400);

/// A call's time is enough for an attempt that hangs and one more.
const POLICY: &str = r#"
    [there]
    timeout_ms = 5_000
    attempt_timeout_ms = 200
    retry_initial_ms = 2
    retry_max_ms = 10
    breaker = { failures_max = 5, reset_ms = 400, rate_reset_ms = 400, probes = 1 }
"#;

struct World {
    network: Network,
    client: Client,
    servers: Vec<Sick>,
    told: Arc<Mutex<Vec<Event>>>,
}

async fn world(fault: Fault) -> World {
    world_with(fault, POLICY).await
}

async fn world_with(fault: Fault, policy: &str) -> World {
    let mut servers = Vec::new();
    for place in 0..4 {
        servers.push(Sick::start(if place < 2 { fault } else { Fault::None }).await);
    }
    let env = Env::system();
    let network = Network::new(Telemetry::new(env.clone()), env.clone());
    network.set_policies(toml::from_str::<Policies>(policy).unwrap());
    let told = Arc::<Mutex<Vec<Event>>>::default();
    let tell = told.clone();
    network.on_call_event(move |event| tell.lock().push(event.event));
    let urls = servers
        .iter()
        .map(|server| format!("http://{}", server.address));
    let fixed = Arc::new(Fixed::urls(urls).unwrap());
    network.discover("there", fixed, Balance::default(), Responses::Plain);
    let client = Client::new(network.channel("here", "there"), Context::root(&env));
    World {
        network,
        client,
        servers,
        told,
    }
}

impl World {
    async fn is_answered(&self) -> bool {
        let answer = self.client.get("/items").send::<Value>().await;
        // Said only where the test fails.
        if let Err(error) = &answer {
            eprintln!("{}", report(error));
        }
        answer.is_ok()
    }

    fn loads(&self) -> Vec<u32> {
        self.servers.iter().map(Sick::load).collect()
    }
}

/// How often breakers may have let a probe through meanwhile.
fn probes(since: Instant) -> u32 {
    let times = since.elapsed().as_millis() / RESET.as_millis();
    u32::try_from(times).unwrap() + 1
}

async fn half(fault: Fault) {
    let world = world(fault).await;
    let began = Instant::now();
    let mut errors = 0;
    for _ in 0..400 {
        errors += u32::from(!world.is_answered().await);
    }
    // The two are found out by five calls each, and each of those is tried again at one that is well.
    assert_eq!(errors, 0, "{fault:?}");
    let loads = world.loads();
    for load in &loads[..2] {
        assert!(*load <= 5 + probes(began), "{fault:?}: {loads:?}");
    }
    let told = world.told.lock().clone();
    let opened = told
        .iter()
        .filter(|event| **event == Event::Instance(BreakerState::Open));
    assert!(opened.count() >= 2, "{fault:?}: {told:?}");
    let of_the_target = |event: &Event| matches!(event, Event::Breaker(_) | Event::Refused);
    assert!(!told.iter().any(of_the_target), "{fault:?}: {told:?}");

    // Well again, all get calls once a probe was let through.
    world
        .servers
        .iter()
        .for_each(|server| server.set(Fault::None));
    let (well, before) = (Instant::now(), world.loads());
    let all_get_some = || {
        let after = world.loads();
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| *after > before + 5)
    };
    while !all_get_some() {
        assert!(world.is_answered().await, "{fault:?}");
        assert!(well.elapsed() < RESET * 20, "{fault:?}: not well again");
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn half_that_resets_is_left_out() {
    half(Fault::Resets).await;
}

#[tokio::test]
async fn half_that_hangs_is_left_out() {
    half(Fault::Hangs).await;
}

#[tokio::test]
async fn half_that_speaks_no_http_is_left_out() {
    half(Fault::Garbage).await;
}

#[tokio::test]
async fn all_bad_is_the_target_left_alone_and_one_that_is_well_is_enough() {
    let world = world(Fault::Resets).await;
    world
        .servers
        .iter()
        .for_each(|server| server.set(Fault::Resets));
    let began = Instant::now();
    for _ in 0..100 {
        assert!(!world.is_answered().await);
    }
    let channel = world.network.channel("here", "there");
    let load: u32 = world.loads().iter().sum();
    // Four that fail once each, and some more until five in a row have: not five of each.
    assert!(load <= 16 + 4 * probes(began), "{load}");
    assert!(
        world
            .told
            .lock()
            .contains(&Event::Breaker(BreakerState::Open))
    );
    assert!(world.told.lock().contains(&Event::Refused));

    world.servers[3].set(Fault::None);
    let well = Instant::now();
    while !world.is_answered().await {
        assert!(well.elapsed() < RESET * 20, "not well again");
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(channel.breaker_state(), BreakerState::Closed);
}

#[tokio::test]
async fn who_tries_again_goes_to_another_instance() {
    // Three of four reset, no breaker leaves them out, and each call has just enough attempts. The budget has enough for all
    // from the first call on.
    let policy = r#"
        [there]
        attempts_max = 4
        retry_initial_ms = 1
        retry_max_ms = 1
        breaker = { failures_max = 0, rate_percent = 0 }
        budget = { percent = 100, per_second = 1_000_000, saved_max = 1_000 }
    "#;
    let world = world_with(Fault::Resets, policy).await;
    world.servers[2].set(Fault::Resets);
    for _ in 0..100 {
        assert!(world.is_answered().await);
    }
}
