//! A store of a test's own: in this process or in several, on free ports, with its data in a folder that goes away.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use storefront::order::OrderFlow;
use storefront::{Options, Store, demo};
use tempfile::TempDir;
use trunkline::telemetry::Ring;
use trunkline::{Platform, Program as _, Settings};
use trunkline_testkit::eventually;

use crate::apart::Apart;
use trunkline_testkit::http::{Answer, Caller};
use trunkline_testkit::trace::Hop;

/// The seed's own example product: 29.99, plenty in stock.
pub(crate) const TEA_SET: &str = "550e8400-e29b-41d4-a716-446655440004";
/// Long enough for anything that ends by itself.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Spans that a test looks at; the catalogue makes many.
const SPANS_MAX: usize = 50_000;

/// A running store, and how to talk to it.
pub(crate) struct TestStore {
    pub(crate) runs: Runs,
    pub(crate) gateway: Caller,
    pub(crate) admin: Caller,
    pub(crate) folder: TempDir,
    /// How its orders come to their end.
    pub(crate) flow: OrderFlow,
}

/// Where a store runs.
pub(crate) enum Runs {
    /// In this process. With the newest spans.
    Here(Box<Store>, Arc<Ring>),
    /// Each of its services in a process of its own.
    Apart(Apart),
}

/// Short times, so that nothing in a test waits long.
pub(crate) const CONFIG: &str = r#"
[service.payment-service]
timeout_ms = 300
ask_again_ms = 100
attempts_max = 3
"#;

/// A configuration under which orders come to their end in this way.
pub(crate) fn by(flow: OrderFlow, config: &str) -> String {
    match flow {
        // What nobody says.
        OrderFlow::Choreography => config.to_owned(),
        OrderFlow::Orchestration => format!("{config}{ORCHESTRATION}"),
    }
}

pub(crate) const ORCHESTRATION: &str = "\n[service.order-service]\nflow = \"orchestration\"\n";

fn flow_of(config: &str) -> OrderFlow {
    match config.contains(ORCHESTRATION) {
        true => OrderFlow::Orchestration,
        false => OrderFlow::Choreography,
    }
}

impl TestStore {
    pub(crate) async fn start() -> Self {
        Self::start_with(CONFIG).await
    }

    /// Starts a store with this configuration file.
    pub(crate) async fn start_with(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_in(folder, config).await
    }

    /// Starts a store on a folder that may have seen one before.
    pub(crate) async fn start_in(folder: TempDir, config: &str) -> Self {
        Self::extended(folder, config, |platform| platform).await
    }

    /// The same with something more in its platform.
    pub(crate) async fn extended(
        folder: TempDir,
        config: &str,
        extend: impl FnOnce(Platform) -> Platform,
    ) -> Self {
        let flow = flow_of(config);
        let file = folder.path().join("trunkline.toml");
        std::fs::write(&file, config).unwrap();
        let settings = Settings {
            config: Some(file),
            ..Settings::on_free_ports(folder.path().join("data"))
        };
        let config = settings.load().unwrap();
        let options = Options {
            provider: None,
            sandbox: Some(Settings::ANYWHERE),
            sandbox_late: Some(Duration::from_millis(800)),
        };
        let spans = Arc::new(Ring::new(SPANS_MAX));
        let sink = Arc::clone(&spans);
        let store =
            Store::start_platform(options, config, |platform| extend(platform.span_sink(sink)));
        let store = store.await.unwrap();
        Self {
            gateway: Caller::new(store.running().gateway_url()),
            admin: Caller::new(store.running().admin_url()),
            runs: Runs::Here(Box::new(store), spans),
            folder,
            flow,
        }
    }

    /// Starts a store of eleven processes, on a bus that the configuration names.
    pub(crate) async fn start_apart(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let apart = Apart::start(folder.path(), config).await;
        Self::of(apart, folder, flow_of(config))
    }

    /// Starts a store of two processes: orders, payments and stock in one, the rest in the other.
    pub(crate) async fn start_two(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let apart = Apart::start_two(folder.path(), config).await;
        Self::of(apart, folder, flow_of(config))
    }

    fn of(apart: Apart, folder: TempDir, flow: OrderFlow) -> Self {
        let [gateway, admin] = apart.addresses.clone();
        Self {
            gateway: Caller::new(gateway),
            admin: Caller::new(admin),
            runs: Runs::Apart(apart),
            folder,
            flow,
        }
    }

    /// The store, where it runs in this process.
    pub(crate) fn here(&self) -> &Store {
        match &self.runs {
            Runs::Here(store, _) => store,
            Runs::Apart(_) => panic!("the store runs in other processes"),
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn provider_url(&self) -> String {
        match &self.runs {
            Runs::Here(store, _) => store.provider_url().to_owned(),
            Runs::Apart(apart) => apart.provider.clone(),
        }
    }

    /// A token of this user.
    pub(crate) fn token(&self, name: &str) -> String {
        storefront::token(&self.data(), name, &[], Duration::from_secs(60)).unwrap()
    }

    /// A caller with a token of this user.
    pub(crate) fn user(&self, name: &str) -> User {
        let caller = self.gateway.bearing(&self.token(name));
        User {
            id: demo::user_id(name),
            caller,
        }
    }

    /// A caller with a token of an admin.
    pub(crate) fn boss(&self) -> Caller {
        let roles = ["admin".to_owned()];
        let token = storefront::token(&self.data(), "boss", &roles, Duration::from_secs(60));
        self.gateway.bearing(&token.unwrap())
    }

    /// Stops it, and gives back its folder.
    pub(crate) async fn stop(self) -> TempDir {
        self.stop_for_spans().await.0
    }

    /// Stops it, so that every span has ended, and gives back its folder, and the hops of a trace.
    pub(crate) async fn stop_for_spans(self) -> (TempDir, impl Fn(u128) -> Vec<Hop>) {
        let mut collector = None;
        let mut ring = None;
        match self.runs {
            Runs::Here(store, spans) => {
                store.shutdown().await;
                ring = Some(spans);
            }
            Runs::Apart(apart) => collector = Some(apart.stop().await),
        }
        let hops = move |trace| match (&ring, &collector) {
            (Some(ring), _) => ring.spans(trace).iter().map(Hop::of).collect(),
            (None, Some(collector)) => collector.hops(trace),
            (None, None) => Vec::new(),
        };
        (self.folder, hops)
    }

    /// What the ledger of the payment provider says of an order.
    pub(crate) async fn charges(&self, order_id: &str) -> Vec<Value> {
        let provider = Caller::new(self.provider_url());
        let ledger = provider.get("/v1/charges").await.expect(200);
        let charges = ledger.as_array().unwrap().iter();
        charges
            .filter(|charge| charge["key"] == order_id)
            .cloned()
            .collect()
    }

    pub(crate) async fn availability(&self, product_id: &str) -> (u64, u64, u64) {
        let stock = self
            .gateway
            .get(&format!("/api/inventory/{product_id}"))
            .await
            .expect(200);
        let count = |name: &str| stock[name].as_u64().unwrap();
        (count("on_hand"), count("reserved"), count("available"))
    }

    /// The events of an order's flow, in the order in which they happened, once there are `types` and what caused them.
    pub(crate) async fn events(&self, correlation_id: &str, types: &[&str]) -> Vec<Value> {
        let mut events = Vec::new();
        eventually(SOON, async || {
            let path = format!("/api/v1/events?correlation_id={correlation_id}&limit=1000");
            let page = self.admin.get(&path).await.expect(200);
            events = page["events"].as_array().unwrap().clone();
            let has = |name, wanted: &Value| events.iter().any(|event| event[name] == *wanted);
            // The trail records topics side by side: an effect may be there before its cause.
            let causes = events.iter().map(|event| &event["causation_id"]);
            let is_whole = causes
                .clone()
                .all(|cause| cause.is_null() || has("id", cause));
            is_whole && types.iter().all(|wanted| has("type", &json!(wanted)))
        })
        .await;
        // The time is the order.
        let time = |event: &Value| event["time"].as_str().unwrap().parse::<jiff::Timestamp>();
        events.sort_by_key(|event| time(event).unwrap());
        events
    }

    /// Every event of a type that was recorded.
    pub(crate) async fn all_events(&self, event_type: &str) -> Vec<Value> {
        let path = format!("/api/v1/events?type={event_type}&limit=1000");
        let page = self.admin.get(&path).await.expect(200);
        page["events"].as_array().unwrap().clone()
    }

    /// The only event of a type, once there is one.
    pub(crate) async fn event(&self, event_type: &str) -> Value {
        eventually(SOON, async || !self.all_events(event_type).await.is_empty()).await;
        let mut events = self.all_events(event_type).await;
        assert_eq!(events.len(), 1, "{events:#?}");
        events.remove(0)
    }

    /// The first event of a type that is about an accepted order, once there is one.
    pub(crate) async fn order_event(&self, event_type: &str, accepted: &Value) -> Value {
        let about = |event: &Value| {
            let data = &event["data"];
            [&data["order_id"], &data["subject_id"]].contains(&&accepted["order_id"])
        };
        let mut found = None;
        eventually(SOON, async || {
            let events = self.all_events(event_type).await;
            found = events.into_iter().find(about);
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// The dead letters, once there are so many.
    pub(crate) async fn dead_letters(&self, count: usize) -> Vec<Value> {
        let mut letters = Vec::new();
        eventually(SOON, async || {
            let page = self.admin.get("/api/v1/dead-letters").await.expect(200);
            letters = page["dead_letters"].as_array().unwrap().clone();
            letters.len() == count
        })
        .await;
        letters
    }

    /// The saga of an order, once it has ended; none where orders go by choreography.
    pub(crate) async fn saga(&self, order_id: &str) -> Option<Value> {
        let path = format!("/api/v1/sagas?saga=order&key={order_id}");
        let mut found = None;
        eventually(SOON, async || {
            let sagas = self.admin.get(&path).await.expect(200);
            found = sagas["sagas"].as_array().unwrap().first().cloned();
            let state = found.as_ref().and_then(|saga| saga["state"].as_str());
            state.is_none_or(|state| {
                matches!(state, "completed" | "failed" | "compensated" | "parked")
            })
        })
        .await;
        found
    }

    /// Files of mails that speak of this text.
    pub(crate) fn mails(&self, about: &str) -> Vec<String> {
        let Ok(files) = std::fs::read_dir(self.folder.path().join("data/mail")) else {
            return Vec::new();
        };
        // One that is being written has another name a moment later.
        let mails = files.filter_map(|file| std::fs::read_to_string(file.unwrap().path()).ok());
        mails.filter(|mail| mail.contains(about)).collect()
    }
}

/// Somebody who shops.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) caller: Caller,
}

impl User {
    /// Orders some pieces of a product; the answer, whatever it is.
    pub(crate) async fn order(&self, key: &str, product_id: &str, quantity: u32) -> Answer {
        let body = json!({
            "items": [{ "product_id": product_id, "quantity": quantity }],
            "shipping_address": address(),
        });
        self.caller
            .with("idempotency-key", key)
            .post("/api/v1/orders", body)
            .await
    }

    /// Pays with another card from now on.
    pub(crate) async fn pay_with(&self, card_token: &str) {
        let card = json!({ "card_token": card_token });
        self.caller
            .put("/api/payments/card", card)
            .await
            .expect(200);
    }

    pub(crate) async fn order_state(&self, order_id: &str) -> Value {
        self.caller
            .get(&format!("/api/v1/orders/{order_id}"))
            .await
            .expect(200)
    }

    /// The order, once it has ended.
    pub(crate) async fn ended(&self, order_id: &str) -> Value {
        let mut order = Value::Null;
        eventually(SOON, async || {
            order = self.order_state(order_id).await;
            order["status"] != "pending"
        })
        .await;
        order
    }
}

pub(crate) fn address() -> Value {
    serde_json::to_value(demo::address()).unwrap()
}

/// The types of events, in their order.
pub(crate) fn types(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect()
}
