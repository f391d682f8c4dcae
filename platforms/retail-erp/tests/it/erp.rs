//! An ERP of a test's own: in this process, on free ports, with its data in a folder that goes away.

use std::sync::Arc;
use std::time::Duration;

use retail_erp::{DEVICE, Erp, Options, STAFF, demo};
use serde_json::{Value, json};
use tempfile::TempDir;
use trunkline::grpc::GrpcChannel;
use trunkline::telemetry::Ring;
use trunkline::{Client, Context, Env, Program as _, Settings};
use trunkline_testkit::http::{Answer, Caller};
use trunkline_testkit::trace::{Hop, draw};
use trunkline_testkit::{eventually, python};

/// Long enough for anything that ends by itself.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The espresso beans: 25.00, of which the shop has 45 and should have 10.
pub(crate) const BEANS: &str = "prod_789";
/// The umbrella: 10.00, of which the shop has 12 and should have 10.
pub(crate) const UMBRELLA: &str = "prod_791";

const SPANS_MAX: usize = 20_000;

pub(crate) struct TestErp {
    pub(crate) erp: Erp,
    pub(crate) admin: Caller,
    pub(crate) folder: TempDir,
    gateway: Caller,
    spans: Arc<Ring>,
}

impl TestErp {
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts an ERP with this configuration file.
    pub(crate) async fn start_with(config: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), config).await
    }

    /// Starts an ERP on a folder that may have seen one before.
    pub(crate) async fn start_in(folder: TempDir, config: &str) -> Self {
        let file = folder.path().join("trunkline.toml");
        std::fs::write(&file, config).unwrap();
        let settings = Settings {
            config: Some(file),
            ..Settings::on_free_ports(folder.path().join("data"))
        };
        let config = settings.load().unwrap();
        let options = Options {
            sandbox: Some(Settings::ANYWHERE),
            ..Options::default()
        };
        let spans = Arc::new(Ring::new(SPANS_MAX));
        let sink = Arc::clone(&spans);
        let erp = Erp::start_platform(options, config, |platform| platform.span_sink(sink));
        let erp = erp.await.unwrap();
        Self {
            gateway: Caller::new(erp.running().gateway_url()),
            admin: Caller::new(erp.running().admin_url()),
            erp,
            folder,
            spans,
        }
    }

    /// A caller with a token.
    pub(crate) fn caller(&self, user: &str, roles: &[&str]) -> Caller {
        let data = self.folder.path().join("data");
        let token = retail_erp::token(&data, user, roles, Duration::from_secs(600));
        self.gateway.bearing(&token.unwrap())
    }

    pub(crate) fn customer(&self) -> Caller {
        self.caller("user_789", &[])
    }

    pub(crate) fn staff(&self) -> Caller {
        self.caller("boss", &[STAFF])
    }

    /// The vending machine of the demo.
    pub(crate) fn machine(&self) -> Caller {
        self.caller(demo::MACHINE, &[DEVICE])
    }

    /// What travels with a request of a user whom the gateway has verified.
    pub(crate) fn context(&self, user: &str, roles: &[&str]) -> Context {
        let context = Context::root(&Env::system()).with_user(user);
        let user_roles = roles.iter().map(|role| (*role).into()).collect();
        Context {
            user_roles,
            ..context
        }
    }

    /// A service's way to another by gRPC.
    pub(crate) fn rpc(&self, from: &str, to: &str, context: &Context) -> GrpcChannel {
        let channel = self
            .erp
            .running()
            .network()
            .channel(from.to_owned(), to.to_owned());
        Client::new(channel, context.clone()).grpc()
    }

    pub(crate) async fn stop(self) -> TempDir {
        self.erp.shutdown().await;
        self.folder
    }

    /// Stops it, so that every span has ended, and draws the trace that an event is part of.
    pub(crate) async fn trace_of(self, event: &Value) -> String {
        let traceparent = event["traceparent"].as_str().unwrap();
        let trace = u128::from_str_radix(traceparent.split('-').nth(1).unwrap(), 16).unwrap();
        self.erp.shutdown().await;
        draw(self.spans.spans(trace).iter().map(Hop::of).collect())
    }

    /// Pieces that lie in a shop, and those of them that are held.
    pub(crate) async fn stock(&self, shop_id: &str, product_id: &str) -> (u64, u64) {
        let path = format!("/api/inventory/{shop_id}/{product_id}");
        let level = self.customer().get(&path).await.expect(200);
        (
            level["stock"].as_u64().unwrap(),
            level["reserved"].as_u64().unwrap(),
        )
    }

    /// Waits until so many pieces lie in a shop, and so many are held.
    pub(crate) async fn has_stock(&self, shop_id: &str, product_id: &str, expected: (u64, u64)) {
        eventually(SOON, async || {
            self.stock(shop_id, product_id).await == expected
        })
        .await;
    }

    /// What the ledger of the payment gateway says of an order.
    pub(crate) async fn charges(&self, order_id: &str) -> Vec<Value> {
        let sandbox = Caller::new(self.erp.sandbox_url().unwrap());
        let ledger = sandbox.get("/v1/charges").await.expect(200);
        let charges = ledger.as_array().unwrap().iter();
        charges
            .filter(|charge| charge["key"] == order_id)
            .cloned()
            .collect()
    }

    /// The events of a flow in the order in which they happened, once there are `types` among them.
    pub(crate) async fn events(&self, correlation_id: &str, types: &[&str]) -> Vec<Value> {
        let mut events = Vec::new();
        eventually(SOON, async || {
            let path = format!("/api/v1/events?correlation_id={correlation_id}&limit=1000");
            let page = self.admin.get(&path).await.expect(200);
            events = page["events"].as_array().unwrap().clone();
            types
                .iter()
                .all(|wanted| events.iter().any(|event| event["type"] == *wanted))
        })
        .await;
        // The trail records topics side by side; the time is the order.
        let time = |event: &Value| {
            event["time"]
                .as_str()
                .unwrap()
                .parse::<trunkline::Timestamp>()
        };
        events.sort_by_key(|event| time(event).unwrap());
        events
    }

    /// The number that a query of a service's store gives, by Python's own SQLite.
    pub(crate) fn ask(&self, service: &str, query: &str) -> String {
        const ASK: &str = "import sqlite3, sys\n\
            db = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)\n\
            print(db.execute(sys.argv[2]).fetchone()[0])";
        let db = self.folder.path().join(format!("data/{service}.db"));
        let output = python::program(ASK).arg(db).arg(query).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
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

/// An order of one product, as it is asked for.
pub(crate) fn new_order(product_id: &str, quantity: u32, card_token: &str) -> Value {
    json!({
        "shopId": demo::SHOP,
        "items": [{ "productId": product_id, "quantity": quantity }],
        "cardToken": card_token,
    })
}

/// Places an order; the answer, whatever it is.
pub(crate) async fn place(caller: &Caller, key: &str, order: Value) -> Answer {
    caller
        .with("idempotency-key", key)
        .post("/orders", order)
        .await
}

/// The types of events, in their order.
pub(crate) fn types(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect()
}

/// The data of the first event of a type.
pub(crate) fn data<'a>(events: &'a [Value], event_type: &str) -> &'a Value {
    let found = events.iter().find(|event| event["type"] == event_type);
    &found.unwrap_or_else(|| panic!("no {event_type} in {events:#?}"))["data"]
}
