//! The store in eleven processes, on each engine: brokers and services are killed under load, and nothing is lost.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use storefront::{analytics, cart, inventory, notification, order, payment};
use trunkline_testkit::eventually;

use super::customers::Customers;
use super::process::World;
use super::{CALM, proof};

/// How often something is killed.
const KILLS: usize = 12;
/// So many orders are accepted, on average, for each kill.
const ORDERS_A_KILL: usize = 4;
/// Whom it may hit. The gateway too: customers send an order again until it is answered.
const PARTS: [&str; 7] = [
    order::NAME,
    payment::NAME,
    inventory::NAME,
    notification::NAME,
    cart::NAME,
    analytics::NAME,
    "gateway",
];

/// Kills the server, or a part of the store, at random moments.
async fn survives(bus: &str, bounce: fn()) {
    let mut random = StdRng::seed_from_u64(rand::random());
    let mut world = World::apart(bus);
    world.start();
    world.well().await;
    let stock_before = proof::stock(&world).await;
    let customers = Customers::open(&world).await;
    let shopping = customers.shop(&world);
    for number in 1..=KILLS {
        tokio::time::sleep(Duration::from_millis(random.random_range(300..2_000))).await;
        if number % 4 == 0 {
            shopping.reaches(number * ORDERS_A_KILL).await;
            tokio::task::spawn_blocking(bounce).await.unwrap();
        } else {
            world.kill_part(PARTS[random.random_range(0..PARTS.len())]);
        }
    }
    world.well().await;
    let accepted = shopping.close().await;
    eventually(CALM, async || proof::calm(&world).await).await;
    let orders = customers.orders(&world).await;
    proof::every_accepted_order_ended(&accepted, &orders);
    proof::stock_adds_up(&world, &stock_before, &orders).await;
    proof::each_payment_was_charged_once(&world, &orders).await;
    proof::each_mail_was_sent(&world, &orders);
    proof::no_event_was_lost(&world, &orders).await;
    eprintln!("{KILLS} kills, {} orders, all accounted for", orders.len());
}

macro_rules! engine {
    ($name:ident, $feature:literal, $server:path, $more:literal) => {
        #[cfg(feature = $feature)]
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            use std::sync::OnceLock;
            static SERVER: OnceLock<$server> = OnceLock::new();
            let server = || SERVER.get_or_init(<$server>::start);
            let bus = crate::engines::place(&server().url(), $more);
            let bounce = || {
                let server = SERVER.get().unwrap();
                server.kill();
                server.restart();
            };
            super::engines::survives(&bus, bounce).await;
        }
    };
}

engine!(
    redis,
    "redis",
    trunkline_testkit::redis::Server,
    "&takeover_ms=3000"
);
engine!(
    rabbitmq,
    "rabbitmq",
    trunkline_testkit::rabbitmq::Server,
    ""
);
engine!(
    nats,
    "nats",
    trunkline_testkit::nats::Server,
    "&lease_ms=3000"
);
engine!(
    kafka,
    "kafka",
    trunkline_testkit::kafka::Server,
    "&session_ms=3000&heartbeat_ms=100&commit_ms=20&handover_ms=3000"
);
