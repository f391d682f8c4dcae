//! Redis as it is met: bad input, foreign clients, members that come and go.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]

mod backbone;
mod bad_input;
mod foreign;
mod light;
mod members;
mod python;
mod registry;
mod retention;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use trunkline_bus::{Delivery, Start, Subscribe, Subscription, TopicSpec, Transport};
use trunkline_core::{Env, Envelope, Result};
use trunkline_redis::{Redis, RedisConfig};
use trunkline_testkit::redis::Server;
use trunkline_testkit::topic;

/// How long what must come may take.
const COMES: Duration = Duration::from_secs(20);

/// A prefix that nobody else has.
fn prefix() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("it{}:", COUNT.fetch_add(1, Ordering::Relaxed))
}

async fn try_open(server: &Server, parameters: &str) -> Result<Redis> {
    let url = format!("{}?{parameters}", server.url());
    Redis::connect(RedisConfig::from_url(&url)?, Env::system()).await
}

async fn open(server: &Server, parameters: &str) -> Redis {
    try_open(server, parameters).await.expect("it connects")
}

/// A transport on the shared server with a prefix of its own, which it gives too.
async fn fresh() -> (Redis, String) {
    let prefix = prefix();
    let parameters = format!("prefix={prefix}&takeover_ms=1000&timeout_ms=5000");
    (open(Server::shared(), &parameters).await, prefix)
}

async fn declare(bus: &Redis, name: &str, partitions: u16, groups: &[&str]) {
    let topic = TopicSpec {
        groups: groups.iter().map(|group| (*group).into()).collect(),
        ..topic(name, partitions)
    };
    bus.declare(&[topic]).await.expect("it is declared");
}

fn spec(topic: &str, group: Option<&str>) -> Subscribe {
    Subscribe {
        topics: vec![topic.into()],
        group: group.map(Into::into),
        start: if group.is_some() {
            Start::Committed
        } else {
            Start::Latest
        },
        in_flight_max: 100,
    }
}

async fn join(bus: &Redis, topic: &str, group: &str) -> Box<dyn Subscription> {
    let joined = bus.subscribe(&spec(topic, Some(group))).await;
    joined.expect("it subscribes")
}

/// Takes exactly `count` deliveries.
async fn take(subscription: &mut dyn Subscription, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let wanted = count - taken.len();
        let next = tokio::time::timeout(COMES, subscription.next(wanted)).await;
        let got = next.unwrap_or_else(|_| panic!("{wanted} of {count} did not come"));
        taken.extend(got.expect("deliveries come"));
    }
    taken
}

fn ack(delivery: Delivery) -> Envelope {
    delivery.receipt.ack();
    delivery.envelope
}

fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    let ids = deliveries.iter().map(|delivery| &*delivery.envelope.id);
    ids.collect()
}

/// What Redis's own client says.
fn cli(server: &Server, arguments: &[&str]) -> String {
    let output = server.cli().args(arguments).output().expect("it answers");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
