//! What the conformance suite does not know: this engine's refusals, alarms, and clients in other languages.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]

mod alarm;
mod declaring;
mod foreign;
mod refused;
mod topology;

use std::time::Duration;

use trunkline_bus::{Start, Subscribe, Subscription, TopicSpec, Transport};
use trunkline_core::Env;
use trunkline_rabbitmq::{RabbitConfig, RabbitMq};

/// Opens the transport on a server with these parameters.
pub(crate) async fn open(server: &str, parameters: &str) -> RabbitMq {
    let config = RabbitConfig::from_url(&format!("{server}?{parameters}")).unwrap();
    RabbitMq::connect(config, Env::system()).await.unwrap()
}

pub(crate) async fn declare(transport: &RabbitMq, topic: &str, group: &str) {
    let spec = TopicSpec {
        groups: vec![group.into()],
        ..trunkline_testkit::topic(topic, 2)
    };
    transport.declare(&[spec]).await.unwrap();
}

pub(crate) async fn join(transport: &RabbitMq, topic: &str, group: &str) -> Box<dyn Subscription> {
    let spec = Subscribe {
        topics: vec![topic.into()],
        group: Some(group.into()),
        start: Start::Committed,
        in_flight_max: 100,
    };
    transport.subscribe(&spec).await.unwrap()
}

/// Takes `count` deliveries.
pub(crate) async fn take(
    member: &mut dyn Subscription,
    count: usize,
) -> Vec<trunkline_bus::Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(30), member.next(count - taken.len()));
        taken.extend(next.await.expect("it comes").unwrap());
    }
    taken
}
