//! Three services in a row, the last of which fails: what load it gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::routing::get;
use axum::{Extension, Json, Router};
use futures::StreamExt;
use trunkline_call::policy::Policies;
use trunkline_call::server::{Limits, layer};
use trunkline_call::{Client, Network, Problem, Responses};
use trunkline_core::{Context, Env, Error, Result};
use trunkline_telemetry::Telemetry;

const CALLS: u32 = 2_000;

/// How a service passes on the failure of the one that it calls.
#[derive(Clone, Copy)]
enum PassesOn {
    /// As it is.
    Same,
    /// As an error of its own with that as its source.
    Own,
}

/// How often each of the three was asked.
#[derive(Default)]
struct Counts([AtomicU32; 3]);

fn service(
    network: &Network,
    (name, place): (&'static str, usize),
    next: Option<&'static str>,
    counts: &Arc<Counts>,
    passes_on: PassesOn,
) {
    let (counts, weak) = (counts.clone(), network.clone());
    let work = move |Extension(context): Extension<Context>| async move {
        counts.0[place].fetch_add(1, Ordering::SeqCst);
        let Some(next) = next else {
            return Err(Problem(Error::unavailable("leaf_down", "the leaf is down")));
        };
        let client = Client::new(weak.channel(name, next), context);
        let answer: Result<bool> = client.get("/").send().await;
        let own = |error: Error| match passes_on {
            PassesOn::Same => error,
            PassesOn::Own => Error::unavailable("next_down", "not now").with_source(error),
        };
        answer.map(Json).map_err(|error| Problem(own(error)))
    };
    let router = Router::new().route("/", get(work));
    let telemetry = Telemetry::new(Env::system());
    let router = layer(router, name, telemetry, Limits::default());
    network.mount(name, router, Responses::Plain);
}

/// The calls of each of the three, and how many were not answered with an error.
async fn storm(policies: &str, passes_on: PassesOn) -> [u32; 3] {
    let env = Env::seeded(4);
    let network = Network::new(Telemetry::new(env.clone()), env.clone());
    network.set_policies(toml::from_str::<Policies>(policies).unwrap());
    let counts = Arc::new(Counts::default());
    service(&network, ("a", 0), Some("b"), &counts, passes_on);
    service(&network, ("b", 1), Some("c"), &counts, passes_on);
    service(&network, ("c", 2), None, &counts, passes_on);
    let root = Client::new(network.channel("outside", "a"), Context::root(&env));
    let calls = futures::stream::iter(0..CALLS).map(|_| root.get("/").send::<bool>());
    let failed = calls
        .buffer_unordered(50)
        .filter(|answer| std::future::ready(answer.is_err()));
    assert_eq!(failed.count().await, CALLS as usize);
    for name in ["a", "b", "c"] {
        network.unmount(&name.into());
    }
    [0, 1, 2].map(|place| counts.0[place].load(Ordering::SeqCst))
}

/// Without breakers, so that nothing but the retries' own rules bound the load.
const NO_BREAKERS: &str = "[\"*\"]\nbreaker = { failures_max = 0, rate_percent = 0 }\n";

#[tokio::test(start_paused = true)]
async fn a_failing_leaf_gets_at_most_a_fifth_more_than_was_asked_for() {
    for passes_on in [PassesOn::Same, PassesOn::Own] {
        let [a, b, c] = storm(NO_BREAKERS, passes_on).await;
        assert_eq!(
            (a, b),
            (CALLS, CALLS),
            "nobody tries again what was tried further down"
        );
        assert!(c > CALLS + CALLS / 20, "{c}: there are retries at all");
        assert!(f64::from(c) <= 1.2 * f64::from(CALLS), "{c}");
    }
}

#[tokio::test(start_paused = true)]
async fn breakers_leave_it_alone() {
    let [a, b, c] = storm("", PassesOn::Same).await;
    assert!(c < CALLS / 10, "{a}, {b}, {c}");
    assert!(a <= CALLS && b <= CALLS, "{a}, {b}, {c}");
}
