//! Trunkline's log, through the `Transport` trait and nothing else.

use std::sync::Arc;

use bytestring::ByteString;
use futures::FutureExt;
use tokio::task::JoinSet;
use trunkline_bus::{Start, Subscribe, Subscription, TopicSpec, Transport};
use trunkline_core::{Env, Envelope, Kind, Priority, Version};
use trunkline_log::{Durability, Log, LogConfig};

use super::{Outcome, Setup};
use crate::flow::Flow;

/// Runs it on a runtime of two threads.
pub fn run(setup: &Setup) -> Outcome {
    let mut config = LogConfig::new(&setup.dir);
    config.durability = if setup.synced {
        Durability::Always
    } else {
        Durability::Os
    };
    let log: Arc<dyn Transport> = Arc::new(Log::open(config, Env::system())?);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build()?;
    runtime.block_on(drive(setup, log))
}

async fn drive(setup: &Setup, log: Arc<dyn Transport>) -> Outcome {
    let topic = TopicSpec {
        name: "t".into(),
        partitions: 1,
        retention: None,
        retention_bytes: None,
        groups: Vec::new(),
    };
    log.declare(std::slice::from_ref(&topic)).await?;
    let spec = Subscribe {
        topics: vec![topic.name],
        group: Some("g".into()),
        start: Start::Committed,
        in_flight_max: 1000,
    };
    let member = log.subscribe(&spec).await?;
    let flow = Arc::new(Flow::new(setup.window));
    let mut work = JoinSet::new();
    work.spawn(publish(flow.clone(), log.clone(), setup.batch));
    let consumer = JoinSet::from_iter([consume(flow.clone(), member)]);
    let (clock, warm_up, measured) = (flow, setup.warm_up, setup.measured);
    let clock = tokio::task::spawn_blocking(move || clock.clock(warm_up, measured, &[]));
    let result = clock.await?;
    work.join_all().await;
    drop(consumer);
    log.close().await?;
    Ok(result)
}

async fn publish(flow: Arc<Flow>, log: Arc<dyn Transport>, batch: u64) {
    let make = Make::new();
    let mut waiting = JoinSet::new();
    while let Some(count) = flow.permits_async(batch).await {
        let mut events = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        let mut first = 0;
        for nth in 0..count {
            let (number, body) = flow.next();
            if nth == 0 {
                first = number;
            }
            events.push(make.event(number, body));
        }
        let (log, flow) = (log.clone(), flow.clone());
        let mut published = async move {
            log.publish(&events).await.expect("it publishes");
            flow.confirmed(first..first + count);
        }
        .boxed();
        // Polled once here, so that batches are handed over in order.
        if futures::poll!(&mut published).is_pending() {
            waiting.spawn(published);
        }
        while waiting.try_join_next().is_some() {}
    }
    waiting.join_all().await;
}

async fn consume(flow: Arc<Flow>, mut member: Box<dyn Subscription>) {
    loop {
        let taken = member.next(1000).await.expect("deliveries come");
        let (mut first, mut next) = (None, 0);
        for delivery in taken {
            let number = flow.received(&delivery.envelope.data);
            delivery.receipt.ack();
            first.get_or_insert(number);
            next = number + 1;
        }
        let Some(first) = first else { return };
        flow.acked(first..next);
    }
}

/// What events have in common.
struct Make {
    model: Envelope,
    keys: Vec<ByteString>,
}

impl Make {
    fn new() -> Self {
        let model = Envelope {
            id: ByteString::new(),
            event_type: ByteString::from_static("order.created"),
            version: Version::new(1, 0),
            source: ByteString::from_static("order-service"),
            time: Env::system().now(),
            topic: ByteString::from_static("t"),
            key: None,
            correlation_id: ByteString::new(),
            causation_id: None,
            trace: None,
            user_id: None,
            kind: Kind::Domain,
            priority: Priority::Medium,
            content_type: ByteString::from_static("application/json"),
            extensions: Vec::new(),
            data: bytes::Bytes::new(),
        };
        let keys = (0..1000)
            .map(|key| format!("order-{key:04}").into())
            .collect();
        Self { model, keys }
    }

    fn event(&self, number: u64, body: Vec<u8>) -> Envelope {
        let id = ByteString::from(format!("0192f0c1-7a3e-7b54-{number:016x}"));
        let key = usize::try_from(number).unwrap_or(0) % self.keys.len();
        Envelope {
            correlation_id: id.clone(),
            id,
            key: Some(self.keys[key].clone()),
            data: body.into(),
            ..self.model.clone()
        }
    }
}
