//! Many runs of retry, breaker, deadline and bulkhead on a clock that only the runs move, each with its own seed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use http::{Request, Response};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};
use trunkline_call::Body;
use trunkline_call::layer::{
    Breaker, BreakerState, Budget, Bulkhead, CircuitBreaker, Deadline, Event, Observer, Retry,
};
use trunkline_call::policy::{BreakerPolicy, BudgetPolicy, BulkheadPolicy, Policy};
use trunkline_core::{Env, Error, Result};

const SEEDS: u64 = 1_000;
const CALLS: u32 = 150;
const PROBES: i32 = 3;
const TIMEOUT: Duration = Duration::from_secs(5);

/// What one run came to.
#[derive(Debug, Default)]
struct Run {
    /// What was seen, in its order: for the same seed the same.
    log: Mutex<Vec<String>>,
    attempts: AtomicU32,
    /// Probes that are with the target now, and how many it got since the breaker went half-open.
    probes_out: AtomicI32,
    probes_let: AtomicI32,
    probes_dropped: AtomicI32,
    /// How often the breaker changed: a call from before a change is no probe of the time after it.
    changes: AtomicU32,
    opened: AtomicU32,
}

/// A call that is with the target; it may be given up there.
struct AtTarget<'a> {
    run: &'a Run,
    changes: u32,
    is_probe: bool,
    is_done: bool,
}

impl Drop for AtTarget<'_> {
    fn drop(&mut self) {
        let is_of_now = self.changes == self.run.changes.load(Ordering::SeqCst);
        if self.is_probe && is_of_now {
            self.run.probes_out.fetch_sub(1, Ordering::SeqCst);
            if !self.is_done {
                self.run.probes_dropped.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// How the target is at a time: it changes every few seconds, and is well at last.
fn mood(seed: u64, at: Duration, well_after: Duration) -> u64 {
    if at >= well_after {
        return 0;
    }
    let mut hash = DefaultHasher::new();
    (seed, at.as_secs() / 7).hash(&mut hash);
    hash.finish() % 5
}

async fn target(run: &Run, breaker: &Breaker, env: &Env, mood: u64) -> Result<Response<Body>> {
    run.attempts.fetch_add(1, Ordering::SeqCst);
    let state = breaker.state();
    assert_ne!(state, BreakerState::Open, "nothing passes while it is open");
    let is_probe = state == BreakerState::HalfOpen;
    if is_probe {
        let let_through = run.probes_let.fetch_add(1, Ordering::SeqCst) + 1;
        let out = run.probes_out.fetch_add(1, Ordering::SeqCst) + 1;
        let dropped = run.probes_dropped.load(Ordering::SeqCst);
        assert!(out <= PROBES, "{out} probes at once");
        assert!(
            let_through - dropped <= PROBES,
            "{let_through} probes, {dropped} dropped"
        );
    }
    let mut at = AtTarget {
        run,
        changes: run.changes.load(Ordering::SeqCst),
        is_probe,
        is_done: false,
    };
    let takes = Duration::from_millis(env.random_u64() % 60);
    sleep(takes).await;
    let fails = match mood {
        1 => true,
        2 => env.random_f64() < 0.5,
        3 => env.random_f64() < 0.1,
        4 => std::future::pending().await,
        _ => false,
    };
    at.is_done = true;
    if !fails {
        return Ok(Response::new(Body::empty()));
    }
    match env.random_u64() % 3 {
        0 => Err(Error::unavailable("gone", "not there")),
        1 => Ok(Response::builder().status(503).body(Body::empty()).unwrap()),
        _ => Ok(Response::builder().status(500).body(Body::empty()).unwrap()),
    }
}

async fn simulate(seed: u64) -> u64 {
    let env = Env::seeded(seed);
    let run = Arc::new(Run::default());
    let began = Instant::now();
    let well_after = Duration::from_secs(60 + env.random_u64() % 60);
    let told = run.clone();
    let observer = Observer::new(move |event| {
        if let Event::Breaker(state) = event {
            told.log
                .lock()
                .push(format!("{:?} {state:?}", began.elapsed()));
            told.probes_let.store(0, Ordering::SeqCst);
            told.probes_dropped.store(0, Ordering::SeqCst);
            told.probes_out.store(0, Ordering::SeqCst);
            told.changes.fetch_add(1, Ordering::SeqCst);
            told.opened
                .fetch_add(u32::from(*state == BreakerState::Open), Ordering::SeqCst);
        }
    });
    let mut policy = BreakerPolicy::default();
    policy.probes = PROBES as u32;
    let breaker = Arc::new(Breaker::new(policy).observed(observer));
    let budget = Arc::new(Budget::new(BudgetPolicy::default()));
    let mut places = BulkheadPolicy::default();
    (places.in_flight_max, places.waiting_max) = (20, 10);
    let (at, of, from) = (run.clone(), breaker.clone(), env.clone());
    let service = service_fn(move |_: Request<Body>| {
        let (run, breaker, env) = (at.clone(), of.clone(), from.clone());
        async move {
            target(
                &run,
                &breaker,
                &env,
                mood(seed, began.elapsed(), well_after),
            )
            .await
        }
    });
    let service = Bulkhead::new(places).layer(service);
    let service = CircuitBreaker::new(breaker.clone()).layer(service);
    let service = Retry::new(Policy::default(), budget, env.clone()).layer(service);
    let service = Deadline::new(TIMEOUT).layer(service);

    let call = |number: u32, gives_up: Option<Duration>| {
        let (mut service, run) = (service.clone(), run.clone());
        async move {
            let began = Instant::now();
            let request = Request::get("/").body(Body::empty()).unwrap();
            let ready = service.ready().await.unwrap();
            let answer = timeout(gives_up.unwrap_or(TIMEOUT * 2), ready.call(request)).await;
            assert!(began.elapsed() <= TIMEOUT, "{:?}", began.elapsed());
            let word = match &answer {
                Err(_) => "given up".to_owned(),
                Ok(Ok(response)) => response.status().to_string(),
                Ok(Err(error)) => error.code().to_owned(),
            };
            run.log.lock().push(format!("{number} {word}"));
            matches!(answer, Ok(Ok(response)) if response.status() == 200)
        }
    };
    // Calls that come at their own times, whatever becomes of those before.
    let mut under_way = FuturesUnordered::new();
    for number in 0..CALLS {
        let gives_up = env
            .random_u64()
            .is_multiple_of(8)
            .then(|| Duration::from_millis(env.random_u64() % 2_000));
        under_way.push(call(number, gives_up));
        let pause = sleep(Duration::from_millis(env.random_u64() % 1_500));
        let mut pause = Box::pin(pause.fuse());
        loop {
            futures::select_biased! {
                () = pause => break,
                _ = under_way.select_next_some() => {}
            }
        }
    }
    while under_way.next().await.is_some() {}

    let seconds = began.elapsed().as_secs() as f64 + 1.0;
    let attempts = f64::from(run.attempts.load(Ordering::SeqCst));
    let bound = f64::from(CALLS) * 1.1 + 10.0 + seconds;
    assert!(attempts <= bound, "{attempts} attempts, at most {bound}");

    // The target is well for good: so is its caller, a reset later.
    sleep(well_after.saturating_sub(began.elapsed()) + Duration::from_secs(61)).await;
    for number in 0..PROBES as u32 {
        assert!(
            call(CALLS + number, None).await,
            "a probe of a target that is well"
        );
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
    let mut hash = DefaultHasher::new();
    run.log.lock().hash(&mut hash);
    run.opened.load(Ordering::SeqCst).hash(&mut hash);
    hash.finish()
}

fn in_its_own_time(seed: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let run = std::panic::AssertUnwindSafe(|| runtime.block_on(simulate(seed)));
    std::panic::catch_unwind(run).unwrap_or_else(|_| panic!("seed {seed} failed"))
}

#[test]
fn a_thousand_runs_keep_their_bounds() {
    let hashes: std::collections::BTreeSet<u64> = (0..SEEDS).map(in_its_own_time).collect();
    assert!(hashes.len() as u64 > SEEDS * 9 / 10, "the runs differ");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 77, 998] {
        assert_eq!(in_its_own_time(seed), in_its_own_time(seed));
    }
}
