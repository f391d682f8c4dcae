//! One thing wrong with a server on a real socket: what its caller sees, what load it gets, and how soon its caller is
//! well again once it is.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use trunkline_call::layer::BreakerState;
use trunkline_call::policy::Policies;
use trunkline_call::{Client, Network, Responses};
use trunkline_core::{Context, Env};
use trunkline_telemetry::Telemetry;

use crate::sick::{Fault, Sick};

/// Times a tenth of the defaults, so that a test is short; the breaker opens after five failures in a row.
const POLICY: &str = r#"
    [there]
    timeout_ms = 400
    retry_initial_ms = 2
    retry_max_ms = 10
    breaker = { failures_max = 5, reset_ms = 300, rate_reset_ms = 300, probes = 1 }
"#;

/// No call takes longer, whatever the machine does besides.
const BOUND: Duration = Duration::from_secs(10);

struct Caller {
    network: Network,
    client: Client,
}

/// What the calls came to.
#[derive(Debug, Default)]
struct Seen {
    good: u32,
    codes: BTreeSet<String>,
    errors: u32,
    slowest: Duration,
}

impl Caller {
    fn of(network: Network) -> Self {
        let env = Env::system();
        let client = Client::new(network.channel("here", "there"), Context::root(&env));
        Self { network, client }
    }

    fn new(address: std::net::SocketAddr) -> Self {
        let env = Env::system();
        let network = Network::new(Telemetry::new(env.clone()), env);
        network.set_policies(toml::from_str::<Policies>(POLICY).unwrap());
        let url = format!("http://{address}");
        network.remote("there", &url, Responses::Plain).unwrap();
        Self::of(network)
    }

    /// Reads one after the other.
    async fn read(&self, times: u32) -> Seen {
        let mut seen = Seen::default();
        for _ in 0..times {
            let began = Instant::now();
            let answer = self.client.get("/items").send::<Value>().await;
            seen.slowest = seen.slowest.max(began.elapsed());
            match answer {
                Ok(_) => seen.good += 1,
                Err(error) => {
                    seen.errors += 1;
                    seen.codes.insert(error.code().to_owned());
                }
            }
        }
        assert!(seen.slowest < BOUND, "{seen:?}");
        seen
    }

    fn breaker(&self) -> BreakerState {
        self.network.channel("here", "there").breaker_state()
    }

    /// Asks until it is answered again and the breaker is closed. Gives how many calls that took.
    async fn recovers(&self) -> u32 {
        let until = Instant::now() + BOUND;
        let mut calls = 0;
        while Instant::now() < until {
            calls += 1;
            let answer = self.client.get("/items").send::<Value>().await;
            if answer.is_ok() && self.breaker() == BreakerState::Closed {
                return calls;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("not well again: {:?}", self.breaker());
    }
}

fn codes(seen: &Seen) -> Vec<&str> {
    seen.codes.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn down_fails_at_once_and_costs_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let caller = Caller::new(address);
    let seen = caller.read(30).await;
    assert_eq!((seen.good, seen.errors), (0, 30));
    assert_eq!(codes(&seen), ["circuit_open", "service_unreachable"]);
    assert_eq!(caller.breaker(), BreakerState::Open);
    let server = Sick::at(TcpListener::bind(address).await.unwrap(), Fault::None);
    caller.recovers().await;
    assert!(caller.read(20).await.errors == 0 && server.load() >= 21);
}

#[tokio::test]
async fn hanging_costs_five_deadlines_and_is_then_left_alone() {
    let server = Sick::start(Fault::Hangs).await;
    let caller = Caller::new(server.address);
    let seen = caller.read(30).await;
    assert_eq!(seen.errors, 30);
    assert_eq!(codes(&seen), ["circuit_open", "deadline_exceeded"]);
    // Five, and one probe for each time that it was let half-open meanwhile.
    assert!((5..=8).contains(&server.load()), "{}", server.load());
    server.set(Fault::None);
    caller.recovers().await;
    assert_eq!(caller.read(20).await.errors, 0);
}

#[tokio::test]
async fn flapping_is_mended_by_retries_as_far_as_the_budget_goes() {
    let server = Sick::start(Fault::Flaps).await;
    let caller = Caller::new(server.address);
    let seen = caller.read(9).await;
    assert_eq!(seen.errors, 0, "{seen:?}");
    assert_eq!(server.load(), 18);
    // Half of all attempts fail: the breaker opens before the budget is gone.
    let seen = caller.read(30).await;
    assert_eq!(caller.breaker(), BreakerState::Open);
    assert!(seen.codes.contains("circuit_open"), "{seen:?}");
    assert!(server.load() <= 39 + 14, "{}", server.load());
    server.set(Fault::None);
    caller.recovers().await;
    assert_eq!(caller.read(20).await.errors, 0);
}

/// A connection that breaks is tried again for a read, and never for what may have had its effect.
async fn breaks(fault: Fault, code: &str) {
    let server = Sick::start(fault).await;
    let caller = Caller::new(server.address);
    let change = caller.client.post("/items").send::<Value>().await;
    assert_eq!(change.unwrap_err().code(), code, "{fault:?}");
    assert_eq!(server.load(), 1, "{fault:?}");
    let seen = caller.read(30).await;
    assert_eq!(seen.errors, 30, "{fault:?}");
    assert_eq!(codes(&seen), ["circuit_open", code], "{fault:?}");
    assert!(server.load() <= 8, "{fault:?}: {}", server.load());
    server.set(Fault::None);
    caller.recovers().await;
    assert_eq!(caller.read(20).await.errors, 0, "{fault:?}");
}

#[tokio::test]
async fn resetting_is_an_error_of_the_connection_and_left_alone() {
    breaks(Fault::Resets, "service_unreachable").await;
}

#[tokio::test]
async fn malformed_frames_are_an_error_of_the_connection_and_left_alone() {
    breaks(Fault::Garbage, "service_unreachable").await;
}

#[tokio::test]
async fn a_head_byte_by_byte_ends_with_the_deadline_and_is_left_alone() {
    let server = Sick::start(Fault::TricklesHead).await;
    let caller = Caller::new(server.address);
    let seen = caller.read(20).await;
    assert_eq!(seen.errors, 20);
    assert_eq!(codes(&seen), ["circuit_open", "deadline_exceeded"]);
    assert!(server.load() <= 8, "{}", server.load());
    server.set(Fault::None);
    caller.recovers().await;
}

#[tokio::test]
async fn a_body_byte_by_byte_ends_with_the_deadline_and_is_left_alone_in_the_end() {
    let server = Sick::start(Fault::TricklesBody).await;
    let caller = Caller::new(server.address);
    // Each began well, so they are no failures in a row; half of what is counted failed.
    let seen = caller.read(14).await;
    assert_eq!(seen.errors, 14);
    assert!(seen.codes.contains("deadline_exceeded"), "{seen:?}");
    assert!(
        server.load() <= 14,
        "a body that began is not asked for again"
    );
    assert_eq!(caller.breaker(), BreakerState::Open);
    server.set(Fault::None);
    caller.recovers().await;
}

#[tokio::test]
async fn a_body_that_ends_early_is_an_error() {
    let server = Sick::start(Fault::Short).await;
    let caller = Caller::new(server.address);
    let seen = caller.read(5).await;
    assert_eq!((seen.errors, codes(&seen)), (5, vec!["answer_broken"]));
    server.set(Fault::None);
    caller.recovers().await;
}

#[tokio::test]
async fn an_endless_body_is_cut_off_at_its_bound() {
    let server = Sick::start(Fault::Endless).await;
    let caller = Caller::new(server.address);
    let call = caller.client.get("/items").timeout(BOUND);
    let error = call.send::<Value>().await.unwrap_err();
    assert_eq!(error.code(), "answer_too_large");
    assert_eq!(server.load(), 1);
    server.set(Fault::None);
    assert_eq!(caller.recovers().await, 1);
}

#[tokio::test]
async fn another_content_is_refused_and_speaks_for_no_failure_of_the_target() {
    let server = Sick::start(Fault::Html).await;
    let caller = Caller::new(server.address);
    let seen = caller.read(20).await;
    assert_eq!((seen.errors, codes(&seen)), (20, vec!["answer_invalid"]));
    assert_eq!(
        server.load(),
        20,
        "the same would come again: nothing is tried again"
    );
    assert_eq!(caller.breaker(), BreakerState::Closed);
    server.set(Fault::None);
    assert_eq!(caller.recovers().await, 1);
}

#[tokio::test]
async fn a_slow_target_does_not_take_more_places_than_it_has() {
    let server = Sick::start(Fault::Hangs).await;
    let caller = Caller::new(server.address);
    let text = format!("{POLICY}\nbulkhead = {{ in_flight_max = 4, waiting_max = 2 }}\n");
    caller.network.set_policies(toml::from_str(&text).unwrap());
    let calls = (0..30).map(|_| caller.client.get("/items").send::<Value>());
    let errors = futures::future::join_all(calls).await;
    let count = |code: &str| {
        let errors = errors.iter().filter_map(|answer| answer.as_ref().err());
        errors.filter(|error| error.code() == code).count()
    };
    assert_eq!(count("bulkhead_full"), 24);
    // Those that waited may get a place in the last moment, when the others have opened the breaker.
    assert_eq!(count("deadline_exceeded") + count("circuit_open"), 6);
    assert!(count("deadline_exceeded") >= 4);
    assert!((4..=6).contains(&server.load()), "{}", server.load());
}

#[tokio::test]
async fn an_older_answer_stands_in_and_the_caller_is_told() {
    let server = Sick::start(Fault::None).await;
    let caller = Caller::new(server.address);
    let text = format!("{POLICY}\nfallback_age_max_ms = 60_000\n");
    caller.network.set_policies(toml::from_str(&text).unwrap());
    let read = || caller.client.get("/items").send_for_answer::<bool>();
    let first = read().await.unwrap();
    assert_eq!(
        (first.value, first.age, first.is_fallback),
        (true, None, false)
    );
    for fault in [Fault::Resets, Fault::Hangs, Fault::Flaps] {
        server.set(fault);
        for _ in 0..3 {
            let answer = read().await.unwrap();
            assert!(answer.value && answer.age.is_some() == answer.is_fallback);
        }
    }
    server.set(Fault::Hangs);
    let stale = read().await.unwrap();
    assert!(stale.is_fallback && stale.age.is_some());
}
