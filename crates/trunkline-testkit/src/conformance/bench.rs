//! What a case works with.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use trunkline_bus::{Delivery, Start, Subscribe, Subscription, TopicSpec, Transport};
use trunkline_core::{Env, Envelope};

use super::{Breakable, Engine};
use crate::{numbered, topic};

thread_local! {
    /// How long to wait for what must come.
    static COMES: Cell<Duration> = const { Cell::new(Duration::from_secs(20)) };
}
/// How long to look whether something comes that must not. Too short only weakens the case.
const QUIET: Duration = Duration::from_millis(100);

/// The groups that topics are declared for.
pub(super) const GROUPS: [&str; 3] = ["g", "first", "second"];

/// An engine, opened for one case.
#[expect(
    missing_debug_implementations,
    reason = "it holds an engine, which need not have one"
)]
pub struct Bench {
    engine: Arc<dyn Engine>,
    /// The transport under test.
    pub transport: Arc<dyn Transport>,
    env: Env,
}

impl Bench {
    /// Opens the engine.
    ///
    /// # Panics
    /// When it does not open.
    pub async fn open(engine: Arc<dyn Engine>) -> Self {
        let env = Env::system();
        let transport = engine.open(env.clone()).await;
        let transport = transport.expect("the transport opens");
        Self {
            engine,
            transport,
            env,
        }
    }

    /// The same place, opened with another clock.
    pub(super) async fn with_env(mut self, env: Env) -> Self {
        self.env = env;
        self.reopen().await;
        self
    }

    /// The server, to be broken.
    pub(super) fn server(&self) -> &dyn Breakable {
        let server = self.engine.server();
        server.expect("a case that breaks a server has a place with one")
    }

    /// Closes the transport and opens it again at the same place.
    pub(super) async fn reopen(&mut self) {
        self.transport.close().await.expect("it closes");
        self.transport = self.open_again().await;
    }

    /// The transport, opened again.
    pub(super) async fn open_again(&self) -> Arc<dyn Transport> {
        let opened = self.engine.open(self.env.clone()).await;
        opened.expect("it opens again")
    }

    /// Declares a topic for [`GROUPS`].
    pub(super) async fn declare(&self, name: &str, partitions: u16) {
        self.declare_for(name, partitions, &GROUPS).await;
    }

    pub(super) async fn declare_for(&self, name: &str, partitions: u16, groups: &[&str]) {
        let topic = TopicSpec {
            groups: groups.iter().map(|group| (*group).into()).collect(),
            ..topic(name, partitions)
        };
        let declared = self.transport.declare(&[topic]).await;
        declared.expect("a topic is declared");
    }

    pub(super) async fn publish(&self, batch: &[Envelope]) {
        self.transport
            .publish(batch)
            .await
            .expect("a batch is published");
    }

    /// Publishes events `range` of `key`, in one batch.
    pub(super) async fn publish_numbered(
        &self,
        name: &str,
        key: &str,
        range: std::ops::Range<usize>,
    ) {
        let batch: Vec<Envelope> = range.map(|n| numbered(name, key, n)).collect();
        self.publish(&batch).await;
    }

    pub(super) async fn join(&self, spec: &Subscribe) -> Box<dyn Subscription> {
        self.transport.subscribe(spec).await.expect("it subscribes")
    }

    /// Joins `group` on `name`, where the group was.
    pub(super) async fn group(&self, name: &str, group: &str) -> Box<dyn Subscription> {
        self.join(&spec(name, Some(group), Start::Committed)).await
    }

    /// Reads what is published to `name` from now on, on its own.
    pub(super) async fn reader(&self, name: &str) -> Box<dyn Subscription> {
        self.reader_from(name, Start::Latest).await
    }

    /// Reads `name` on its own, from `start`.
    pub(super) async fn reader_from(&self, name: &str, start: Start) -> Box<dyn Subscription> {
        self.join(&spec(name, None, start)).await
    }
}

pub(super) fn spec(name: &str, group: Option<&str>, start: Start) -> Subscribe {
    let group = group.map(Into::into);
    Subscribe {
        topics: vec![name.into()],
        group,
        start,
        in_flight_max: 1_000,
    }
}

/// How long a case that runs on this thread waits for what must come.
pub(super) fn comes() -> Duration {
    COMES.get()
}

/// Cases on this thread wait for so long.
pub(super) fn be_patient(comes: Duration) {
    COMES.set(comes);
}

/// Takes exactly `count` deliveries, unsettled.
pub(super) async fn take(subscription: &mut dyn Subscription, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let wanted = count - taken.len();
        let next = timeout(comes(), subscription.next(wanted)).await;
        let got = next.unwrap_or_else(|_| panic!("{wanted} of {count} deliveries did not come"));
        let got = got.expect("deliveries come");
        assert!(
            !got.is_empty(),
            "an empty batch says that the transport is closed"
        );
        assert!(got.len() <= wanted, "asked for {wanted}, got {}", got.len());
        taken.extend(got);
    }
    taken
}

/// Takes and acknowledges `count` deliveries; gives their events.
pub(super) async fn consume(subscription: &mut dyn Subscription, count: usize) -> Vec<Envelope> {
    let taken = take(subscription, count).await;
    taken.into_iter().map(ack).collect()
}

pub(super) fn ack(delivery: Delivery) -> Envelope {
    delivery.receipt.ack();
    delivery.envelope
}

/// Fails if anything is delivered for a while.
pub(super) async fn quiet(subscription: &mut dyn Subscription) {
    if let Ok(got) = timeout(QUIET, subscription.next(10)).await {
        let got = got.expect("deliveries come");
        let ids: Vec<_> = got
            .iter()
            .map(|delivery| delivery.envelope.id.clone())
            .collect();
        panic!("nothing should have come, but {ids:?} did");
    }
}

pub(super) fn ids<'a>(events: impl IntoIterator<Item = &'a Envelope>) -> Vec<String> {
    events
        .into_iter()
        .map(|event| event.id.to_string())
        .collect()
}

pub(super) fn ids_of(key: &str, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("{key}/{n}")).collect()
}
