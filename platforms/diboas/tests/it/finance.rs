//! A platform of a test's own: in this process, on free ports, with its data in a folder that goes away.

use std::sync::Arc;
use std::time::Duration;

use diboas::{Finance, Options, STAFF};
use serde_json::{Value, json};
use tempfile::TempDir;
use trunkline::telemetry::Ring;
use trunkline::{Platform, Program as _, Settings};
use trunkline_testkit::eventually;
use trunkline_testkit::http::Caller;
use trunkline_testkit::trace::{Hop, draw};

/// Long enough for anything that ends by itself.
pub(crate) const SOON: Duration = Duration::from_secs(30);
const SPANS_MAX: usize = 20_000;

pub(crate) struct TestFinance {
    pub(crate) finance: Finance,
    pub(crate) admin: Caller,
    folder: TempDir,
    gateway: Caller,
    spans: Arc<Ring>,
}

impl TestFinance {
    pub(crate) async fn start() -> Self {
        Self::extended(|platform| platform).await
    }

    pub(crate) async fn extended(extend: impl FnOnce(Platform) -> Platform) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Settings::on_free_ports(folder.path().join("data"))
            .load()
            .unwrap();
        let options = Options {
            sandbox: Some(Settings::ANYWHERE),
            ..Options::default()
        };
        let spans = Arc::new(Ring::new(SPANS_MAX));
        let sink = Arc::clone(&spans);
        let finance =
            Finance::start_platform(options, config, |platform| extend(platform.span_sink(sink)));
        let finance = finance.await.unwrap();
        Self {
            gateway: Caller::new(finance.running().gateway_url()),
            admin: Caller::new(finance.running().admin_url()),
            finance,
            folder,
            spans,
        }
    }

    /// A caller with a token.
    pub(crate) fn caller(&self, user: &str, roles: &[&str]) -> Caller {
        let data = self.folder.path().join("data");
        let token = diboas::token(&data, user, roles, Duration::from_secs(600));
        self.gateway.bearing(&token.unwrap())
    }

    pub(crate) async fn deposits(&self, user: &str, amount: &str) {
        let body = json!({ "amount": { "amount": amount, "currency": "USDC" } });
        let caller = self
            .caller(user, &[])
            .with("idempotency-key", format!("d-{user}-{amount}"));
        caller
            .post("/api/v1/wallet/deposits", body)
            .await
            .expect(200);
    }

    /// Sends so much from one chain to another; the transaction's id.
    pub(crate) async fn sends(&self, from: &str, to: &str, amount: &str) -> String {
        let body = json!({
            "recipient": to, "from": "ethereum", "to": "solana",
            "amount": { "amount": amount, "currency": "USDC" },
        });
        let key = format!("s-{from}-{to}-{amount}");
        let caller = self.caller(from, &[]).with("idempotency-key", key);
        let accepted = caller.post("/api/v1/transactions", body).await.expect(202);
        assert_eq!(accepted["status"], "processing");
        accepted["transactionId"].as_str().unwrap().to_owned()
    }

    /// Waits until a transaction has ended; it, as it stands then.
    pub(crate) async fn ended(&self, id: &str) -> Value {
        let staff = self.caller(&format!("boss-{id}"), &[STAFF]);
        let path = format!("/api/v1/transactions/{id}");
        eventually(SOON, async || {
            staff.get(&path).await.expect(200)["status"] != "processing"
        })
        .await;
        staff.get(&path).await.expect(200)
    }

    /// Waits until the saga of a transaction has ended: it may have written a little after the transaction has.
    pub(crate) async fn settled(&self, id: &str) {
        let path = format!("/api/v1/sagas?key={id}");
        eventually(SOON, async || {
            let sagas = self.admin.get(&path).await.expect(200);
            let state = sagas["sagas"][0]["state"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            matches!(&*state, "completed" | "failed" | "compensated" | "parked")
        })
        .await;
    }

    /// What a user has, as text.
    pub(crate) async fn has(&self, user: &str) -> String {
        let balances = self
            .caller(user, &[])
            .get("/api/v1/wallet")
            .await
            .expect(200);
        let usdc = balances
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["balance"]["currency"] == "USDC");
        usdc.map_or("0".to_owned(), |one| {
            one["balance"]["amount"].as_str().unwrap().to_owned()
        })
    }

    pub(crate) async fn comes_to_have(&self, user: &str, amount: &str) {
        eventually(SOON, async || self.has(user).await == amount).await;
    }

    /// The ledger's sum is zero in each currency; what is held of USDC.
    pub(crate) async fn held(&self) -> String {
        let sums = self
            .caller("boss", &[STAFF])
            .get("/api/v1/wallet/ledger")
            .await
            .expect(200);
        for sum in sums.as_array().unwrap() {
            let zero = sum["sum"]["amount"]
                .as_str()
                .unwrap()
                .parse::<f64>()
                .unwrap();
            assert_eq!(zero, 0.0, "{sums}");
        }
        let usdc = sums
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["sum"]["currency"] == "USDC");
        usdc.map_or("0".to_owned(), |one| {
            one["held"]["amount"].as_str().unwrap().to_owned()
        })
    }

    /// How a provider is from now on.
    pub(crate) async fn provider_is(&self, provider: &str, mode: &str) {
        let path = format!("/v1/faults/{provider}");
        self.sandbox()
            .put(&path, json!({ "mode": mode }))
            .await
            .expect(200);
    }

    fn sandbox(&self) -> Caller {
        Caller::new(self.finance.sandbox_url().unwrap())
    }

    /// The legs of a transaction that were ever asked for, as `provider leg status`.
    pub(crate) async fn legs(&self, id: &str) -> Vec<String> {
        let ledger = self.sandbox().get("/v1/legs").await.expect(200);
        let mine = ledger.as_array().unwrap().iter().filter_map(|leg| {
            let key = leg["key"].as_str().unwrap();
            let kind = key.strip_prefix(&format!("{id}-"))?;
            Some(format!(
                "{} {kind} {}",
                leg["provider"].as_str()?,
                leg["status"].as_str()?
            ))
        });
        mine.collect()
    }

    /// Stops it, so that every span has ended, and draws the trace of a flow.
    pub(crate) async fn trace_of(self, event_type: &str) -> String {
        let events = self
            .admin
            .get(&format!("/api/v1/events?type={event_type}"))
            .await
            .expect(200);
        let event = &events["events"][0];
        let traceparent = event["traceparent"]
            .as_str()
            .unwrap_or_else(|| panic!("{events}"));
        let trace = u128::from_str_radix(traceparent.split('-').nth(1).unwrap(), 16).unwrap();
        self.finance.shutdown().await;
        draw(self.spans.spans(trace).iter().map(Hop::of).collect())
    }
}
