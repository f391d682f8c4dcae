//! A platform as whoever uses it sees it, wherever it runs.

use std::path::PathBuf;
use std::time::Duration;

use diboas::STAFF;
use serde_json::{Value, json};
use trunkline_testkit::eventually;
use trunkline_testkit::http::Caller;

/// Long enough for anything that ends by itself.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Its doors, and the data folder that has the key of its tokens.
pub(crate) struct Outside {
    pub(crate) gateway: Caller,
    pub(crate) admin: Caller,
    pub(crate) sandbox: Caller,
    pub(crate) data: PathBuf,
}

impl Outside {
    /// A caller with a token.
    pub(crate) fn caller(&self, user: &str, roles: &[&str]) -> Caller {
        let token = diboas::token(&self.data, user, roles, Duration::from_secs(3_600));
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

    /// How all providers are from now on.
    pub(crate) async fn all_providers_are(&self, mode: &str) {
        for provider in diboas::chains::PROVIDERS {
            self.provider_is(provider, mode).await;
        }
    }

    /// How a provider is from now on.
    pub(crate) async fn provider_is(&self, provider: &str, mode: &str) {
        let path = format!("/v1/faults/{provider}");
        self.sandbox
            .put(&path, json!({ "mode": mode }))
            .await
            .expect(200);
    }

    /// The legs of a transaction that were ever asked for, as `provider leg status`.
    pub(crate) async fn legs(&self, id: &str) -> Vec<String> {
        let ledger = self.sandbox.get("/v1/legs").await.expect(200);
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
}
