use std::collections::BTreeMap;

use http::{HeaderMap, Response};
use tokio::time::{Instant, advance};
use trunkline_core::Env;

use super::super::{Avoid, Balance};
use super::*;
use crate::Body;
use crate::discovery::Instance;
use crate::layer::Outcome;

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

struct World {
    pool: Arc<Pool>,
    breakers: Arc<Breakers>,
    told: Arc<Mutex<Vec<Event>>>,
}

fn breakers(
    pool: &Arc<Pool>,
    caller: &'static str,
    told: &Arc<Mutex<Vec<Event>>>,
) -> Arc<Breakers> {
    let tell = told.clone();
    let observer = Observer::new(move |event| tell.lock().push(*event));
    pool.breakers(&caller.into(), || {
        Breakers::new(caller.into(), pool, BreakerPolicy::default(), observer)
    })
}

fn list(ports: impl IntoIterator<Item = u16>) -> Vec<Instance> {
    let at = |port| Instance::at("h", port).unwrap();
    ports.into_iter().map(at).collect()
}

fn world(ports: impl IntoIterator<Item = u16>) -> World {
    let pool = Arc::new(Pool::new("there", Balance::default(), Env::seeded(7)));
    pool.update(list(ports));
    let told = Arc::<Mutex<Vec<Event>>>::default();
    let breakers = breakers(&pool, "here", &told);
    World {
        pool,
        breakers,
        told,
    }
}

fn port(held: &Held) -> u16 {
    held.member().authority().port_u16().unwrap()
}

impl World {
    fn choose(&self) -> Result<Held> {
        self.breakers
            .choose(&self.pool, &Ask::default(), Times::default())
    }

    /// So many calls of a millisecond: how many each port got, and how many were refused (0).
    async fn calls(&self, count: usize, fails: impl Fn(u16) -> bool) -> BTreeMap<u16, usize> {
        let mut got = BTreeMap::new();
        for _ in 0..count {
            let at = self.choose().map(|mut held| {
                let failed = fails(port(&held));
                let outcome = if failed {
                    Outcome::Failed
                } else {
                    Outcome::Answered
                };
                held.told_by(Some(outcome));
                port(&held)
            });
            advance(MILLI).await;
            *got.entry(at.unwrap_or(0)).or_default() += 1;
        }
        got
    }

    fn of_the_whole(&self) -> Vec<BreakerState> {
        let told = self.told.lock();
        let whole = told.iter().filter_map(|event| match event {
            Event::Breaker(state) => Some(*state),
            _ => None,
        });
        whole.collect()
    }
}

use BreakerState::{Closed, HalfOpen, Open};

#[tokio::test(start_paused = true)]
async fn a_sick_instance_is_left_out_by_its_own_breaker_and_comes_back_by_probes() {
    let world = world(1..=4);
    let got = world.calls(4_000, |port| port == 1).await;
    assert_eq!((got[&1], world.pool.left_out()), (5, 1));
    assert_eq!(
        got.get(&0),
        None,
        "nothing is refused while others are well"
    );
    // A minute later one probe decides.
    advance(SECOND * 60).await;
    let got = world.calls(4_000, |port| port == 1).await;
    assert_eq!((got[&1], world.pool.left_out()), (1, 1));
    advance(SECOND * 60).await;
    let got = world.calls(4_000, |_| false).await;
    assert!(got[&1] > 600, "{got:?}");
    assert_eq!(world.pool.left_out(), 0);
    let told: Vec<_> = world.told.lock().clone();
    let states = [Open, HalfOpen, Open, HalfOpen, Closed].map(Event::Instance);
    assert_eq!(told, states, "and of the whole nothing is told");
}

#[tokio::test(start_paused = true)]
async fn a_share_of_failures_is_a_reason_too() {
    let world = world(1..=2);
    let had = AtomicU32::new(0);
    // Three of four, so never five in a row.
    let fails = |port| port == 1 && !had.fetch_add(1, Relaxed).is_multiple_of(4);
    world.calls(2_000, fails).await;
    assert_eq!(world.pool.left_out(), 1);
    assert_eq!(world.breakers.state(), Closed);
}

#[tokio::test(start_paused = true)]
async fn the_target_is_open_when_all_its_instances_are_and_soon_when_all_fail() {
    for count in [2, 10, 100] {
        let world = world(1..=count);
        let got = world.calls(1_000, |_| true).await;
        let failed: usize = got
            .iter()
            .filter(|(port, _)| **port != 0)
            .map(|(_, n)| n)
            .sum();
        // Each has to be seen to fail once, and no more are needed than five in a row.
        assert!(failed >= usize::from(count).max(5), "{failed} of {count}");
        assert!(failed <= usize::from(count) * 4 + 5, "{failed} of {count}");
        assert_eq!(world.breakers.state(), Open);
        let error = world.choose().unwrap_err();
        assert_eq!(error.code(), "circuit_open");
        let left = error.retry_after().unwrap();
        assert!(left > SECOND * 58 && left < SECOND * 60, "{left:?}");
        assert!(world.breakers.check(&world.pool).is_err());
        assert_eq!(world.told.lock().last(), Some(&Event::Refused));

        // One that is well is enough.
        advance(SECOND * 60).await;
        assert!(world.breakers.check(&world.pool).is_ok());
        world.calls(1_000, |port| port != 1).await;
        assert_eq!(world.breakers.state(), Closed);
        let told = world.of_the_whole();
        assert_eq!((told.first(), told.last()), (Some(&Open), Some(&Closed)));
        assert_eq!(told.iter().filter(|state| **state == Closed).count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_blip_of_the_last_one_that_is_well_does_not_open_the_target() {
    let world = world(1..=2);
    world.calls(1_000, |port| port == 1).await;
    for _ in 0..50 {
        // Four in a row, and an answer.
        world.calls(4, |_| true).await;
        world.calls(5, |_| false).await;
    }
    assert_eq!(world.of_the_whole(), []);
}

#[tokio::test(start_paused = true)]
async fn each_caller_judges_for_itself_and_one_instance_is_the_target() {
    let world = world([1]);
    let others = breakers(&world.pool, "elsewhere", &world.told);
    world.calls(10, |_| true).await;
    assert_eq!((world.breakers.state(), others.state()), (Open, Closed));
    assert!(
        others
            .choose(&world.pool, &Ask::default(), Times::default())
            .is_ok()
    );
    assert_eq!(*world.told.lock(), [Event::Breaker(Open)]);
    assert_eq!(world.pool.left_out(), 1);
    // What is known stays while it is listed.
    world.pool.update(list([1, 2]));
    assert_eq!(world.breakers.state(), Closed);
    assert_eq!(world.pool.left_out(), 1);
    world.pool.update(list([2]));
    world.pool.update(list([1, 2]));
    assert_eq!(world.pool.left_out(), 0, "it begins anew");
    world.pool.update(Vec::new());
    assert_eq!(world.breakers.state(), Closed);
    assert!(world.breakers.check(&world.pool).is_ok());
    assert_eq!(world.choose().unwrap_err().code(), "service_unreachable");
}

#[tokio::test(start_paused = true)]
async fn another_policy_counts_at_every_instance() {
    let world = world(1..=2);
    world.calls(100, |_| false).await;
    let policy = BreakerPolicy {
        failures_max: 2,
        reset: SECOND,
        ..BreakerPolicy::default()
    };
    world.breakers.set_policy(policy);
    let got = world.calls(500, |port| port == 2).await;
    assert_eq!(got[&2], 2);
    // One that comes later has it too.
    world.pool.update(list(1..=3));
    let got = world.calls(500, |port| port == 3).await;
    assert_eq!(got[&3], 2);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_was_tried_elsewhere_first_goes_on() {
    let world = world(1..=2);
    let avoid = Avoid::new();
    let ask = Ask {
        avoid: Some(&avoid),
        ..Ask::default()
    };
    let ports = [0; 2].map(|_| {
        port(
            &world
                .breakers
                .choose(&world.pool, &ask, Times::default())
                .unwrap(),
        )
    });
    assert_ne!(ports[0], ports[1], "who tries again goes elsewhere");
    assert!(
        world
            .breakers
            .choose(&world.pool, &ask, Times::default())
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn who_lets_the_deadline_pass_has_failed_and_who_was_given_up_has_not() {
    let world = world([1, 2]);
    for _ in 0..1_000 {
        let until = Times::until(Instant::now() + MILLI * 10);
        let held = world
            .breakers
            .choose(&world.pool, &Ask::default(), until)
            .unwrap();
        let takes = if port(&held) == 1 { 10 } else { 5 };
        advance(MILLI * takes).await;
        drop(held);
    }
    assert_eq!(world.pool.left_out(), 1);
    assert_eq!(port(&world.choose().unwrap()), 2);
}

#[tokio::test(start_paused = true)]
async fn trailers_and_a_body_that_breaks_off_count() {
    let world = world([1]);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "14".parse().unwrap());
    let frames = [Ok(http_body::Frame::trailers(trailers))];
    let broken = [Err(std::io::Error::other("cut"))];
    for frames in [frames, broken] {
        let before = world.pool.members()[0].in_flight();
        let body = Body::new(http_body_util::StreamBody::new(futures::stream::iter(
            frames,
        )));
        let response = Response::builder().header("content-type", "application/grpc");
        let held = world.choose().unwrap();
        let answer = held.answered(response.body(body).unwrap());
        assert_eq!(world.pool.members()[0].in_flight(), before + 1);
        drop(http_body_util::BodyExt::collect(answer.into_body()).await);
        assert_eq!(world.pool.members()[0].in_flight(), before);
    }
    assert_eq!(world.breakers.in_a_row.load(Relaxed), 2);
}
