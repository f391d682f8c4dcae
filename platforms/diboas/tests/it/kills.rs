//! The platform is killed at random moments while it carries transfers and its providers fail by turns.
//!
//! The sandbox of the chains and the customers live outside of the killed process. Each transfer is sent until it is
//! answered, always with the same key.

use std::collections::BTreeMap;
use std::time::Duration;

use diboas::STAFF;
use futures::future::join_all;
use hyper::Method;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use trunkline_testkit::{Child, eventually_or};

use crate::process::World;

/// How often the platform is killed, if `DIBOAS_KILLS` does not say so.
const KILLS: usize = 12;
/// After so many, everything is let come to rest and is counted.
const COUNT_EVERY: usize = 40;
const CUSTOMERS: usize = 4;
const DEPOSIT: u64 = 1_000_000;
const TRANSFERS_A_KILL: usize = 6;
/// Long enough for what was interrupted to end.
const CALM: Duration = Duration::from_secs(180);
/// Whoever was killed is called again soon after it is back.
const CONFIG: &str = "[call.\"*\".breaker]\nreset_ms = 500\nrate_reset_ms = 500\n";

/// A transfer that was accepted.
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) amount: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_transfer_is_lost_or_half_done_when_the_platform_is_killed() {
    let read = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let kills = read("DIBOAS_KILLS").map_or(KILLS, |kills: u64| usize::try_from(kills).unwrap());
    let seed: u64 = read("CRASH_SEED").unwrap_or_else(rand::random);
    let world = World::new().await;
    let config = world.configuration("diboas.toml", CONFIG);
    let mut process = world.spawn(world.process(&["up"], &config));
    world.ready().await;
    for customer in 0..CUSTOMERS {
        world
            .deposits(&format!("from{customer}"), &DEPOSIT.to_string())
            .await;
    }
    let (mut sent, mut at_rest) = (Vec::new(), 0);
    for number in 1..=kills {
        // Each kill has a seed of its own, so that one can be told from the other.
        let seed = seed.wrapping_add(number as u64);
        let mut random = StdRng::seed_from_u64(seed);
        eprintln!("kill {number}, CRASH_SEED={seed}");
        let moment = Duration::from_millis(random.random_range(20..900));
        set_faults(&world, &mut random).await;
        let transfers: Vec<_> = (0..TRANSFERS_A_KILL)
            .map(|n| (format!("{number}-{n}"), random.random_range(1..100)))
            .collect();
        let transfers = transfers
            .iter()
            .map(|(key, amount)| send(&world, key, *amount));
        let kill = async {
            tokio::time::sleep(moment).await;
            let status = process.kill().unwrap();
            assert!(
                Child::was_killed(status),
                "it ended by itself: {status}\n{}",
                world.log()
            );
            world.spawn(world.process(&["up"], &config))
        };
        let (accepted, started) = tokio::join!(join_all(transfers), kill);
        process = started;
        sent.extend(accepted);
        if number % COUNT_EVERY == 0 || number == kills {
            rests(&world, &sent[at_rest..]).await;
            prove(&world, &sent, DEPOSIT).await;
            at_rest = sent.len();
        }
    }
    eprintln!("{kills} kills, {} transfers, all accounted for", sent.len());
}

/// Lets each provider be well, or ill in one of three ways.
async fn set_faults(world: &World, random: &mut StdRng) {
    for provider in ["meridian", "polaris", "quasar"] {
        let modes = ["well", "well", "well", "down", "refusing", "forgetful"];
        world
            .provider_is(provider, modes[random.random_range(0..modes.len())])
            .await;
    }
}

/// Sends a transfer until it is accepted.
async fn send(world: &World, key: &str, amount: u64) -> Sent {
    let customer = amount as usize % CUSTOMERS;
    let (from, to) = (format!("from{customer}"), format!("to{customer}"));
    let body = json!({
        "recipient": to, "from": "ethereum", "to": "solana",
        "amount": { "amount": amount.to_string(), "currency": "USDC" },
    });
    let caller = world.caller(&from, &[]).with("idempotency-key", key);
    let accepted = std::sync::Mutex::new(None);
    let tried = async || {
        let path = "/api/v1/transactions";
        let answer = caller
            .try_send(Method::POST, path, Some(body.to_string()))
            .await;
        let Ok(answer) = answer else {
            return false;
        };
        let is_accepted = answer.status == 202;
        if is_accepted {
            *accepted.lock().unwrap() = Some(answer.expect(202));
        }
        is_accepted
    };
    eventually_or(CALM, tried, || world.log()).await;
    let accepted = accepted.into_inner().unwrap().unwrap();
    Sent {
        id: accepted["transactionId"].as_str().unwrap().to_owned(),
        from,
        to,
        amount,
    }
}

/// All providers are well again, and everything ends.
pub(crate) async fn rests(world: &World, sent: &[Sent]) {
    world.well().await;
    world.all_providers_are("well").await;
    let waits = std::sync::Mutex::new(String::new());
    let calm = async || {
        for state in ["running", "waiting", "compensating"] {
            let path = format!("/api/v1/sagas?state={state}");
            let sagas = world.admin.get(&path).await.expect(200);
            if !sagas["sagas"].as_array().unwrap().is_empty() {
                *waits.lock().unwrap() = sagas.to_string();
                return false;
            }
        }
        true
    };
    let why = || format!("{}\n{}", waits.lock().unwrap(), world.log());
    for one in sent {
        world.ended(&one.id).await;
    }
    eventually_or(CALM, calm, why).await;
    let parked = world
        .admin
        .get("/api/v1/sagas?state=parked")
        .await
        .expect(200);
    assert_eq!(parked["sagas"], json!([]), "{}", world.log());
}

/// The ledger's sum is zero, each transfer is whole or undone, and everybody has what is left to them.
pub(crate) async fn prove(world: &World, sent: &[Sent], deposit: u64) {
    let legs = world.sandbox.get("/v1/legs").await.expect(200);
    let mut done: BTreeMap<String, usize> = BTreeMap::new();
    for leg in legs
        .as_array()
        .unwrap()
        .iter()
        .filter(|leg| leg["status"] == "done")
    {
        let (id, _) = leg["key"].as_str().unwrap().rsplit_once('-').unwrap();
        *done.entry(id.to_owned()).or_default() += 1;
    }
    let mut left: BTreeMap<&str, u64> = sent.iter().map(|one| (&*one.from, deposit)).collect();
    let mut got: BTreeMap<&str, u64> = BTreeMap::new();
    for (n, one) in sent.iter().enumerate() {
        // Nobody is asked more often than the gateway lets them.
        let staff = world.caller(&format!("boss{}", n / 1_000), &[STAFF]);
        let path = format!("/api/v1/transactions/{}", one.id);
        let transaction: Value = staff.get(&path).await.expect(200);
        let done = done.remove(&one.id).unwrap_or_default();
        if transaction["status"] == "completed" {
            assert_eq!(done, 3, "{}", story_of(world, &transaction, &legs).await);
            *got.entry(&one.to).or_default() += one.amount;
            *left.entry(&one.from).or_default() -= one.amount;
        } else {
            assert_eq!(transaction["status"], "failed", "{transaction}");
            assert_eq!(done, 0, "{}", story_of(world, &transaction, &legs).await);
        }
    }
    assert!(done.is_empty(), "legs of nobody's transfers: {done:?}");
    for (who, amount) in left.into_iter().chain(got) {
        world.comes_to_have(who, &format!("{amount}.000000")).await;
    }
    assert_eq!(world.held().await, "0.000000");
}

/// All that there is to know of a transfer that is not whole.
async fn story_of(world: &World, transaction: &Value, legs: &Value) -> String {
    let id = transaction["transactionId"].as_str().unwrap();
    let legs = legs.as_array().unwrap().iter();
    let legs: Vec<&Value> = legs
        .filter(|leg| leg["key"].as_str().unwrap().starts_with(id))
        .collect();
    let path = format!("/api/v1/sagas?key={id}");
    let found = world.admin.get(&path).await.expect(200);
    let saga = found["sagas"][0]["id"].as_str().unwrap_or_default();
    let path = format!("/api/v1/sagas/transaction-service/{saga}");
    let saga = world.admin.get(&path).await.expect(200);
    format!("{transaction:#}\n{legs:#?}\n{saga:#}")
}
