//! NATS as it is met: bad input, foreign clients, members that come and go.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]

mod bad_input;
mod members;
mod python;
mod topics;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use trunkline_bus::{Delivery, Start, Subscribe, Subscription, TopicSpec, Transport};
use trunkline_core::{Env, Envelope, Result};
use trunkline_nats::{Nats, NatsConfig};
use trunkline_testkit::nats::Server;
use trunkline_testkit::{numbered, topic};

/// How long what must come may take.
const COMES: Duration = Duration::from_secs(20);
/// How long to look whether something comes that must not.
const QUIET: Duration = Duration::from_millis(200);

/// A prefix that nobody else has.
fn prefix() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("it{}.", COUNT.fetch_add(1, Ordering::Relaxed))
}

async fn try_open(server: &Server, parameters: &str) -> Result<Nats> {
    let url = format!("{}?{parameters}", server.url());
    Nats::connect(NatsConfig::from_url(&url)?, Env::system()).await
}

async fn open(server: &Server, parameters: &str) -> Nats {
    try_open(server, parameters).await.expect("it connects")
}

/// Transports on the shared server with one prefix, which comes last.
async fn two(parameters: &str) -> (Nats, Nats, String) {
    let prefix = prefix();
    let parameters = format!("prefix={prefix}&lease_ms=1000&{parameters}");
    let server = Server::shared();
    (
        open(server, &parameters).await,
        open(server, &parameters).await,
        prefix,
    )
}

async fn fresh() -> (Nats, String) {
    let (nats, _, prefix) = two("").await;
    (nats, prefix)
}

/// The server without Trunkline.
async fn bare(server: &Server) -> jetstream::Context {
    jetstream::new(
        async_nats::connect(server.url())
            .await
            .expect("it connects"),
    )
}

async fn declare(bus: &Nats, name: &str, partitions: u16, groups: &[&str]) {
    let topic = TopicSpec {
        groups: groups.iter().map(|group| (*group).into()).collect(),
        ..topic(name, partitions)
    };
    bus.declare(&[topic]).await.expect("it is declared");
}

async fn publish(bus: &Nats, key: &str, range: std::ops::Range<usize>) {
    let batch: Vec<Envelope> = range.map(|n| numbered("t", key, n)).collect();
    bus.publish(&batch).await.expect("it is published");
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

async fn join(bus: &Nats, topic: &str, group: &str) -> Box<dyn Subscription> {
    let joined = bus.subscribe(&spec(topic, Some(group))).await;
    joined.expect("it subscribes")
}

/// Takes exactly `count` deliveries.
async fn take(subscription: &mut dyn Subscription, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = subscription.next(count - taken.len());
        let next = tokio::time::timeout(COMES, next)
            .await
            .expect("deliveries come in time");
        taken.extend(next.expect("deliveries come"));
    }
    taken
}

async fn quiet(subscription: &mut dyn Subscription) {
    if let Ok(next) = tokio::time::timeout(QUIET, subscription.next(10)).await {
        panic!(
            "nothing should have come, but {:?} did",
            next.map(|all| ids(&all))
        );
    }
}

fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries
        .iter()
        .map(|delivery| delivery.envelope.id.to_string())
        .collect()
}

fn ack(deliveries: Vec<Delivery>) {
    deliveries
        .into_iter()
        .for_each(|delivery| delivery.receipt.ack());
}
