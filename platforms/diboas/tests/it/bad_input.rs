//! What is refused, and how.

use serde_json::{Value, json};

use crate::finance::TestFinance;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_transfer_is_refused_with_what_was_expected() {
    let finance = TestFinance::start().await;
    let ada = |n: usize| {
        finance
            .caller("ada", &[])
            .with("idempotency-key", format!("k{n}"))
    };
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = json!({
            "recipient": "bob", "from": "ethereum", "to": "solana",
            "amount": { "amount": "1", "currency": "USDC" },
        });
        change(&mut body);
        body
    };
    let refused = [
        (
            with(&|body| body["amount"]["amount"] = json!("-1")),
            "amount_not_positive",
        ),
        (
            with(&|body| body["amount"]["amount"] = json!("0")),
            "amount_not_positive",
        ),
        (with(&|body| body["to"] = json!("ethereum")), "chains_equal"),
        (
            with(&|body| body["recipient"] = json!("ada")),
            "recipient_self",
        ),
        (
            with(&|body| body["recipient"] = json!("bob; drop table")),
            "id_invalid",
        ),
    ];
    for (n, (body, code)) in refused.into_iter().enumerate() {
        let answer = ada(n).post("/api/v1/transactions", body.clone()).await;
        assert_eq!(answer.json()["code"], code, "{body}: {}", answer.json());
    }
    for change in [
        json!({ "amount": { "amount": 1, "currency": "USDC" } }),
        json!({ "amount": { "amount": "1.0000001", "currency": "USDC" } }),
        json!({ "amount": { "amount": "1", "currency": "EUR" } }),
        json!({ "from": "dogecoin" }),
        json!({ "more": 1 }),
    ] {
        let body = with(&|body| {
            for (key, value) in change.as_object().unwrap() {
                body[key] = value.clone();
            }
        });
        let answer = ada(100).post("/api/v1/transactions", body.clone()).await;
        assert!(
            (400..=422).contains(&answer.status.as_u16()),
            "{body}: {}",
            answer.json()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_between_services_is_not_for_others() {
    let finance = TestFinance::start().await;
    let ada = finance.caller("ada", &[]);
    let hold = json!({ "transactionId": "t", "userId": "bob", "amount": { "amount": "1", "currency": "USD" } });
    assert_eq!(ada.post("/api/v1/holds", hold).await.status.as_u16(), 404);
    assert_eq!(
        ada.post("/api/v1/legs", json!({})).await.status.as_u16(),
        404
    );
    ada.get("/api/v1/wallet/ledger")
        .await
        .refused(403, "role_missing");
    finance.deposits("ada", "5").await;
    let id = finance.sends("ada", "bob", "1").await;
    finance.ended(&id).await;
    let mallory = finance.caller("mallory", &[]);
    let path = format!("/api/v1/transactions/{id}");
    mallory.get(&path).await.refused(404, "transaction_unknown");
}
