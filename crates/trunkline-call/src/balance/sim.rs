//! Balancer, breakers and registry together, on a paused clock: each seed is one story of instances that come, go,
//! die, fail and recover, and of a registry that lies and goes away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use trunkline_core::{Env, Error, Result};

use super::{Ask, Balance, Breakers, Held, Pool};
use crate::discovery::keeper::{EMPTY_HOLDS, keep};
use crate::discovery::{
    Discovery, HEARTBEAT, Instance, Registration, Registry, lease_of, renewal_of,
};
use crate::layer::plan::Times;
use crate::layer::{BreakerState, Event, Observer, Outcome};
use crate::policy::BreakerPolicy;

const SEEDS: u64 = 1_000;
const STEP: Duration = Duration::from_millis(100);
/// A breaker lets probes through after so long.
const RESET: Duration = Duration::from_secs(60);

/// A registry in memory, with leases.
struct Books {
    until: Mutex<BTreeMap<String, (Instance, Instant)>>,
    changed: watch::Sender<u64>,
    /// It can't be reached.
    is_away: watch::Sender<bool>,
    /// It lists nothing, or what nobody announced.
    lies: Mutex<Option<Vec<Instance>>>,
}

impl Books {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            until: Mutex::default(),
            changed: watch::Sender::new(0),
            is_away: watch::Sender::new(false),
            lies: Mutex::default(),
        })
    }

    fn away() -> Error {
        Error::unavailable("registry_unreachable", "the registry can't be reached")
    }

    fn list(&self) -> (Vec<Instance>, Option<Instant>) {
        if let Some(lies) = &*self.lies.lock() {
            return (lies.clone(), None);
        }
        let mut until = self.until.lock();
        until.retain(|_, (_, until)| *until > Instant::now());
        let next = until.values().map(|(_, until)| *until).min();
        let list = until.values().map(|(one, _)| one.clone()).collect();
        (list, next)
    }

    fn told(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

struct Watched(Arc<Books>);

impl Discovery for Watched {
    fn watch(&self, _: &str) -> BoxStream<'static, Result<Vec<Instance>>> {
        let (books, first) = (self.0.clone(), true);
        let (changed, away) = (books.changed.subscribe(), books.is_away.subscribe());
        stream::try_unfold((books, changed, away, first), |mut at| async move {
            if !at.3 {
                let next = at.0.list().1;
                let ends = async {
                    match next {
                        Some(next) => tokio::time::sleep_until(next).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    _ = at.2.wait_for(|away| *away) => {}
                    _ = at.1.changed() => {}
                    () = ends => {}
                }
            }
            if *at.2.borrow() {
                return Err(Books::away());
            }
            at.3 = false;
            Ok(Some((at.0.list().0, at)))
        })
        .boxed()
    }
}

impl Registry for Books {
    fn announce<'a>(
        &'a self,
        _: &'a str,
        instance: &'a Instance,
    ) -> BoxFuture<'a, Result<Duration>> {
        Box::pin(async {
            if *self.is_away.borrow() {
                return Err(Self::away());
            }
            let until = Instant::now() + lease_of(HEARTBEAT);
            let known = self
                .until
                .lock()
                .insert(instance.url(), (instance.clone(), until));
            if known.is_none_or(|(old, _)| old != *instance) {
                self.told();
            }
            Ok(renewal_of(HEARTBEAT))
        })
    }

    fn withdraw<'a>(&'a self, _: &'a str, instance: &'a Instance) -> BoxFuture<'a, Result<()>> {
        Box::pin(async {
            self.until.lock().remove(&instance.url());
            self.told();
            Ok(())
        })
    }
}

/// How an instance behaves: its latency, and of 100 calls how many fail.
#[derive(Clone, Copy)]
struct Manner {
    latency: Duration,
    fails: u64,
}

struct World {
    env: Env,
    books: Arc<Books>,
    pool: Arc<Pool>,
    breakers: Arc<Breakers>,
    /// How often the target as a whole was open.
    opened: Arc<AtomicU32>,
    registered: BTreeMap<u16, Registration>,
    manners: BTreeMap<u16, Manner>,
    in_flight: Vec<(Instant, bool, Held)>,
    got: BTreeMap<u16, u32>,
    calls: u32,
    failed: u32,
    trace: u64,
    _keeper: JoinSet<()>,
}

impl World {
    fn new(seed: u64) -> Self {
        let env = Env::seeded(seed);
        let books = Books::new();
        let pool = Arc::new(Pool::new("sim", Balance::default(), env.clone()));
        let opened = Arc::<AtomicU32>::default();
        let count = opened.clone();
        let observer = Observer::new(move |event| {
            let is_open = *event == Event::Breaker(BreakerState::Open);
            count.fetch_add(u32::from(is_open), Ordering::Relaxed);
        });
        let breakers = pool.breakers(&"caller".into(), || {
            Breakers::new("caller".into(), &pool, BreakerPolicy::default(), observer)
        });
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(
            pool.clone(),
            Arc::new(Watched(books.clone())),
            env.clone(),
        ));
        Self {
            env,
            books,
            pool,
            breakers,
            opened,
            registered: BTreeMap::new(),
            manners: BTreeMap::new(),
            in_flight: Vec::new(),
            got: BTreeMap::new(),
            calls: 0,
            failed: 0,
            trace: 0,
            _keeper: keeper,
        }
    }

    fn below(&self, bound: u64) -> u64 {
        self.env.random_u64() % bound
    }

    async fn join(&mut self, port: u16) {
        let instance = Instance::at("i", port).unwrap();
        let books: Arc<dyn Registry> = self.books.clone();
        let registration = Registration::start(books, "sim", instance, self.env.clone()).await;
        self.registered.insert(port, registration);
        let latency = Duration::from_millis(1 + self.below(20));
        self.manners.insert(port, Manner { latency, fails: 0 });
    }

    /// Ends calls that are due, begins a few, and checks what must hold at every step.
    async fn step(&mut self) {
        let now = Instant::now();
        let mut index = 0;
        while index < self.in_flight.len() {
            if self.in_flight[index].0 <= now {
                let (_, fails, mut held) = self.in_flight.swap_remove(index);
                let outcome = if fails {
                    Outcome::Unavailable
                } else {
                    Outcome::Answered
                };
                held.told_by(Some(outcome));
            } else {
                index += 1;
            }
        }
        for _ in 0..=self.below(3) {
            let listed = self.pool.members();
            let state = self.breakers.state();
            let Ok(held) = self
                .breakers
                .choose(&self.pool, &Ask::default(), Times::default())
            else {
                let is_well = !listed.is_empty() && state == BreakerState::Closed;
                assert!(!is_well, "somebody is well and gets nothing");
                continue;
            };
            let authority = held.member().authority();
            let caller = self.breakers.caller();
            let state = held.member().asked(caller, |breaker| breaker.state());
            assert_ne!(state, Some(BreakerState::Open), "{authority} is left out");
            let is_listed = listed.iter().any(|one| Arc::ptr_eq(one, held.member()));
            assert!(is_listed, "{authority} is not listed");
            let port = authority.port_u16().unwrap();
            // One that died or was never there refuses the connection.
            let gone = Manner {
                latency: Duration::from_millis(1),
                fails: 100,
            };
            let manner = *self.manners.get(&port).unwrap_or(&gone);
            let fails = self.below(100) < manner.fails;
            self.calls += 1;
            self.failed += u32::from(fails);
            *self.got.entry(port).or_default() += 1;
            self.trace = self
                .trace
                .wrapping_mul(31)
                .wrapping_add(u64::from(port) * 2 + u64::from(fails));
            self.in_flight.push((now + manner.latency, fails, held));
        }
        sleep(STEP).await;
    }

    async fn run(&mut self, time: Duration) {
        (self.calls, self.failed) = (0, 0);
        self.got.clear();
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.step().await;
        }
    }

    /// When nobody fails any more, everybody who is registered gets work, and no caller sees a failure.
    async fn all_work(&mut self) {
        sleep(RESET).await;
        let expected: BTreeSet<u16> = self.registered.keys().copied().collect();
        let mut got = BTreeSet::new();
        for _ in 0..20 {
            self.run(Duration::from_secs(10)).await;
            assert_eq!(self.failed, 0);
            got.extend(self.got.keys().copied());
            if got == expected {
                return;
            }
        }
        panic!("{got:?} of {expected:?} get work");
    }

    fn ports(&self) -> BTreeSet<u16> {
        let ports = self.pool.members();
        ports
            .iter()
            .filter_map(|one| one.authority().port_u16())
            .collect()
    }

    /// What the registry does: it goes away, lies, or loses everything; and is well again after.
    async fn trouble(&mut self) {
        let before = self.ports();
        match self.below(4) {
            0 => {
                self.books.is_away.send_replace(true);
                self.run(Duration::from_secs(40)).await;
                assert_eq!(self.ports(), before, "the last known are used");
                self.books.is_away.send_replace(false);
            }
            1 => {
                *self.books.lies.lock() = Some(Vec::new());
                self.books.told();
                self.run(EMPTY_HOLDS / 2).await;
                assert_eq!(
                    self.ports(),
                    before,
                    "an empty list is not believed at once"
                );
            }
            2 => {
                let liar = Instance::at("liar", 9).unwrap();
                *self.books.lies.lock() = Some(vec![liar; 5_000]);
                self.books.told();
                self.run(Duration::from_secs(5)).await;
            }
            _ => {
                self.books.until.lock().clear();
                self.books.told();
                self.run(Duration::from_secs(5)).await;
            }
        }
        *self.books.lies.lock() = None;
        self.books.told();
        // Everybody was heard again, and whoever watched had its pause.
        sleep(HEARTBEAT + Duration::from_secs(30)).await;
        self.run(Duration::from_secs(5)).await;
    }
}

async fn story(seed: u64) -> u64 {
    let mut world = World::new(seed);
    let count = u16::try_from(2 + world.below(6)).unwrap();
    for port in 1..=count {
        world.join(port).await;
    }
    sleep(STEP * 5).await;
    assert_eq!(world.ports().len(), usize::from(count));

    // Half of them fail: what callers see of it falls to near nothing.
    let bad = count / 2;
    for port in 1..=bad {
        let fails = if world.below(2) == 0 { 100 } else { 80 };
        world.manners.get_mut(&port).unwrap().fails = fails;
    }
    world.run(Duration::from_secs(20)).await;
    let (first, first_calls) = (world.failed, world.calls);
    world.run(Duration::from_secs(100)).await;
    let (failed, calls) = (world.failed, world.calls);
    assert!(
        first * 100 <= first_calls * 15,
        "{first} of {first_calls} failed at first"
    );
    assert!(failed * 100 <= calls * 2, "{failed} of {calls} failed");
    // What they get is some calls until they are out, and three probes each time that they are tried.
    for port in 1..=bad {
        let got = world.got.get(&port).copied().unwrap_or(0);
        assert!(got <= 40, "{got} of {calls} calls went to a sick one");
    }
    assert_eq!(
        world.opened.load(Ordering::Relaxed),
        0,
        "half of it is well"
    );

    // They recover: everybody gets work, and nobody sees a failure.
    for manner in world.manners.values_mut() {
        manner.fails = 0;
    }
    world.all_work().await;

    // One leaves well, one dies, one comes.
    let registration = world.registered.remove(&1).unwrap();
    registration.withdraw().await.unwrap();
    sleep(STEP * 5).await;
    assert!(!world.ports().contains(&1), "it is gone at once");
    world.join(100).await;
    drop(world.registered.remove(&2));
    world.manners.remove(&2);
    world.run(HEARTBEAT).await;
    sleep(STEP * 5).await;
    assert!(!world.ports().contains(&2), "it is gone within a heartbeat");
    assert!(world.ports().contains(&100));

    world.trouble().await;
    let expected: BTreeSet<u16> = world.registered.keys().copied().collect();
    assert_eq!(world.ports(), expected, "all is well again");
    world.all_work().await;
    world.trace
}

fn tell(seed: u64) -> u64 {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(story(seed))
    }));
    told.unwrap_or_else(|why| {
        eprintln!("seed {seed}");
        std::panic::resume_unwind(why)
    })
}

#[test]
fn a_thousand_stories_keep_their_promises() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                (0..SEEDS)
                    .skip(thread)
                    .step_by(threads)
                    .for_each(|seed| assert_ne!(tell(seed), 0))
            });
        }
    });
}

#[test]
fn the_same_seed_tells_the_same_story() {
    assert_eq!(tell(7), tell(7));
    assert_ne!(tell(7), tell(8));
}
