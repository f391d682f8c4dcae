//! The store is killed at random moments under load, and nothing that it accepted is lost.
//!
//! The payment provider's sandbox and the customers live outside the killed process. Customers send each
//! order until they have an answer, always with the same key.

mod customers;
#[cfg(any(
    feature = "kafka",
    feature = "nats",
    feature = "rabbitmq",
    feature = "redis"
))]
mod engines;
mod process;
mod proof;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use storefront::order::OrderFlow;
use trunkline_testkit::eventually;

use customers::Customers;
use process::World;

/// How often the store is killed.
const KILLS: usize = 50;
/// So often it works on until customers have had as many answers, on average, for each kill.
const BREATHER: usize = 5;
const ORDERS_A_KILL: usize = 4;
/// Long enough for what was interrupted to end.
const CALM: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_accepted_is_lost_when_the_store_is_killed() {
    survives(OrderFlow::Choreography).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_accepted_is_lost_by_orchestration_when_the_store_is_killed() {
    survives(OrderFlow::Orchestration).await;
}

async fn survives(flow: OrderFlow) {
    let seed = std::env::var("CRASH_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    eprintln!("CRASH_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);

    let mut world = World::new(flow);
    world.start();
    world.ready().await;
    let stock_before = proof::stock(&world).await;
    let customers = Customers::open(&world).await;
    let shopping = customers.shop(&world);

    for number in 1..=KILLS {
        // From before it is ready to well into its work.
        tokio::time::sleep(Duration::from_millis(random.random_range(100..1_200))).await;
        if number % BREATHER == 0 {
            shopping.reaches(number * ORDERS_A_KILL).await;
        }
        world.kill();
        world.start();
    }
    world.ready().await;
    let accepted = shopping.close().await;

    eventually(CALM, async || proof::calm(&world).await).await;
    let orders = customers.orders(&world).await;
    proof::every_accepted_order_ended(&accepted, &orders);
    proof::stock_adds_up(&world, &stock_before, &orders).await;
    proof::each_payment_was_charged_once(&world, &orders).await;
    proof::each_mail_was_sent(&world, &orders);
    proof::no_event_was_lost(&world, &orders).await;
    proof::each_saga_ended(&world, flow, &orders).await;
    eprintln!("{KILLS} kills, {} orders, all accounted for", orders.len());
}
