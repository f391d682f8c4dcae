//! From one process to many and back while the platform is used: nobody is refused, and nothing is lost or done twice.
//!
//! How many requests a second there are says `DIBOAS_RATE`. How long the longest of them took is printed; it is no part of the test.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use trunkline::Timestamp;
use trunkline_testkit::Child;
use trunkline_testkit::http::Caller;

use crate::kills::{Sent, prove, rests};
use crate::phases::{HYBRID, MONOLITH, Phase, Places, SERVICES};
use crate::process::World;

/// Requests a second, if nobody says otherwise: what an unoptimised build on a busy machine can do.
const RATE: u64 = 40;
const USERS: u64 = 20;
/// One request in so many is a transfer.
const TRANSFER_EVERY: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn services_move_out_and_back_while_they_are_used() {
    let world = Arc::new(World::new().await);
    let places = Places::new();
    let mut running = places.start(&world, &MONOLITH);
    world.well().await;
    let load = Load::begin(&world).await;

    // Phase 2: the wallet begins beside the one in the old process, then the rest takes over from that.
    load.goes_on().await;
    let wallet = start(&world, (&places, &HYBRID), &["run", "wallet-service"]);
    world.is_up("wallet-service", 1).await;
    let rest = take_over(&world, (&places, &HYBRID), HYBRID.processes[1]);
    world.has_ended(running.remove(0)).await;
    load.goes_on().await;

    // Phase 3: the others do the same, and the gateway is left alone.
    let mut services = vec![wallet];
    for name in [
        "transaction-service",
        "provider-service",
        "compliance-service",
    ] {
        services.push(start(&world, (&places, &SERVICES), &["run", name]));
    }
    for (name, times) in [
        ("transaction-service", 2),
        ("provider-service", 2),
        ("compliance-service", 2),
    ] {
        world.is_up(name, times).await;
    }
    let gateway = take_over(&world, (&places, &SERVICES), &["run", "gateway"]);
    world.has_ended(rest).await;
    load.goes_on().await;

    // And back to phase 1: one process takes over from all, the gateway's first.
    let all = take_over(&world, (&places, &MONOLITH), &["up"]);
    world.has_ended(gateway).await;
    for service in services {
        world.has_ended(service).await;
    }
    load.goes_on().await;

    let (sent, count, longest) = load.end().await;
    eprintln!(
        "{count} requests, {} transfers, the longest request took {longest:?}",
        sent.len()
    );
    rests(&world, &sent).await;
    eprintln!(
        "the longest transfer took {:?}",
        longest_transfer(&world).await
    );
    prove(&world, &sent, Load::DEPOSIT).await;
    drop(all);
}

/// From the start of its saga to its end, of the last thousand.
async fn longest_transfer(world: &World) -> Duration {
    let sagas = world
        .admin
        .get("/api/v1/sagas?limit=1000")
        .await
        .expect(200);
    let at = |one: &Value, key: &str| one[key].as_str().unwrap().parse::<Timestamp>().unwrap();
    let took = sagas["sagas"].as_array().unwrap().iter().map(|one| {
        let took = at(one, "changed_at").duration_since(at(one, "started_at"));
        Duration::try_from(took).unwrap_or_default()
    });
    took.max().unwrap_or_default()
}

fn start(world: &World, (places, phase): (&Places, &Phase), words: &[&str]) -> Child {
    world.spawn(places.process(world, phase, words))
}

fn take_over(world: &World, (places, phase): (&Places, &Phase), words: &[&str]) -> Child {
    let mut process = places.process(world, phase, words);
    process.arg("--take-over");
    world.spawn(process)
}

/// Users who send a request each time their clock says so, whether the one before was answered or not.
struct Load {
    users: JoinSet<()>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stops: AtomicBool,
    answered: AtomicUsize,
    sent: Mutex<Vec<Sent>>,
    longest: Mutex<Duration>,
}

impl Load {
    const DEPOSIT: u64 = 1_000_000;

    async fn begin(world: &World) -> Self {
        let shared = Arc::new(Shared::default());
        let every = Duration::from_secs(USERS).div_f64(rate() as f64);
        let mut users = JoinSet::new();
        for n in 0..USERS {
            let (from, to) = (format!("from{n}"), format!("to{n}"));
            world.deposits(&from, &Self::DEPOSIT.to_string()).await;
            let user = User {
                caller: world.caller(&from, &[]),
                from,
                to,
                shared: shared.clone(),
            };
            users.spawn(user.go(every));
        }
        Self { users, shared }
    }

    /// Waits until there were as many requests more as take some seconds.
    async fn goes_on(&self) {
        let until = self.shared.answered.load(Ordering::Relaxed) + 2 * rate() as usize;
        while self.shared.answered.load(Ordering::Relaxed) < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(mut self) -> (Vec<Sent>, usize, Duration) {
        self.shared.stops.store(true, Ordering::Relaxed);
        while let Some(ended) = self.users.join_next().await {
            ended.unwrap();
        }
        let sent = std::mem::take(&mut *self.shared.sent.lock().unwrap());
        let longest = *self.shared.longest.lock().unwrap();
        (sent, self.shared.answered.load(Ordering::Relaxed), longest)
    }
}

fn rate() -> u64 {
    let rate = std::env::var("DIBOAS_RATE").ok();
    rate.map_or(RATE, |rate| rate.parse().unwrap())
}

struct User {
    caller: Caller,
    from: String,
    to: String,
    shared: Arc<Shared>,
}

impl User {
    async fn go(self, every: Duration) {
        let user = Arc::new(self);
        let mut clock = interval(every);
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut requests = JoinSet::new();
        let mut number = 0;
        while !user.shared.stops.load(Ordering::Relaxed) {
            let due = clock.tick().await;
            number += 1;
            requests.spawn(user.clone().request(number, due));
            while let Some(done) = requests.try_join_next() {
                done.unwrap();
            }
        }
        while let Some(done) = requests.join_next().await {
            done.unwrap();
        }
    }

    /// Sends one, which has to be answered well, and once.
    async fn request(self: Arc<Self>, number: usize, due: Instant) {
        let answer = if number.is_multiple_of(TRANSFER_EVERY) {
            let body = json!({
                "recipient": self.to, "from": "ethereum", "to": "solana",
                "amount": { "amount": number.to_string(), "currency": "USDC" },
            });
            let caller = self
                .caller
                .with("idempotency-key", format!("{}-{number}", self.from));
            let path = "/api/v1/transactions";
            caller
                .try_send(Method::POST, path, Some(body.to_string()))
                .await
        } else {
            let path = if number.is_multiple_of(2) {
                "/api/v1/wallet"
            } else {
                "/api/v1/transactions"
            };
            self.caller.try_send(Method::GET, path, None).await
        };
        let took = due.elapsed();
        let answer = answer.unwrap_or_else(|error| panic!("a request was not answered: {error:?}"));
        assert!(answer.status.is_success(), "{answer:?}");
        self.shared.answered.fetch_add(1, Ordering::Relaxed);
        let mut longest = self.shared.longest.lock().unwrap();
        *longest = took.max(*longest);
        drop(longest);
        if answer.status == 202 {
            let accepted: Value = answer.json();
            self.shared.sent.lock().unwrap().push(Sent {
                id: accepted["transactionId"].as_str().unwrap().to_owned(),
                from: self.from.clone(),
                to: self.to.clone(),
                amount: number as u64,
            });
        }
    }
}
