//! One story, told as whoever uses the platform sees it: the same in every phase, word for word.

use std::fmt::Write as _;

use serde_json::{Value, json};
use trunkline_testkit::eventually;

use crate::outside::{Outside, SOON};

const FORGETFUL: &str = "the first provider forgets to answer";

/// Plays it, and writes down what was seen.
pub(crate) async fn play(finance: &Outside) -> String {
    let mut told = String::new();
    let out = &mut told;
    finance.deposits("ada", "20000").await;
    writeln!(out, "ada has {}", finance.has("ada").await).unwrap();

    transfer(finance, out, ("ada", "bob", "100.5"), "all are well").await;
    writeln!(
        out,
        "the chains say {}",
        standing(finance, "ada", "bob", "100.5").await
    )
    .unwrap();
    finance.deposits("eve", "10").await;
    transfer(
        finance,
        out,
        ("eve", "bob", "11"),
        "that is more than there is",
    )
    .await;
    transfer(
        finance,
        out,
        ("ada", "mallory", "5"),
        "compliance knows the recipient",
    )
    .await;
    transfer(
        finance,
        out,
        ("ada", "bob", "10000"),
        "compliance finds it too much",
    )
    .await;
    finance.provider_is("meridian", "refusing").await;
    transfer(
        finance,
        out,
        ("ada", "bob", "20"),
        "the first provider refuses",
    )
    .await;
    finance.all_providers_are("refusing").await;
    transfer(finance, out, ("ada", "bob", "22"), "no provider takes it").await;
    finance.all_providers_are("well").await;
    finance.provider_is("meridian", "forgetful").await;
    transfer(finance, out, ("ada", "bob", "21"), FORGETFUL).await;
    finance.provider_is("meridian", "down").await;
    writeln!(
        out,
        "the chains say {}",
        standing(finance, "ada", "bob", "100.5").await
    )
    .unwrap();
    finance.all_providers_are("well").await;
    refusals(finance, out).await;
    writeln!(out, "\nthe ledger holds {}", finance.held().await).unwrap();
    told
}

/// A transfer from its acceptance to its end, with its saga's steps, its legs, its events and what everybody has.
async fn transfer(
    finance: &Outside,
    out: &mut String,
    (from, to, amount): (&str, &str, &str),
    about: &str,
) {
    let id = finance.sends(from, to, amount).await;
    let ended = finance.ended(&id).await;
    finance.settled(&id).await;
    writeln!(out, "\n{from} sends {amount} to {to}: {about}").unwrap();
    let reason = ended["reason"].as_str().unwrap_or("");
    writeln!(out, "  {} {reason}", ended["status"].as_str().unwrap()).unwrap();
    let saga = saga_of(finance, &id).await;
    // Whoever did not answer is asked again a second later, be that within this transfer or after it.
    let is_told = |what: &str| about != FORGETFUL || what.contains("source");
    for step in saga["steps"].as_array().unwrap() {
        let name = step["name"].as_str().unwrap_or_default();
        if !is_told(name) {
            continue;
        }
        let state = step["state"].as_str().unwrap();
        let error = step["error"]["code"]
            .as_str()
            .map_or(String::new(), |code| format!(" ({code})"));
        let undone = if step["undone"]["is_done"] == true {
            ", undone"
        } else {
            ""
        };
        writeln!(out, "  step {name}: {state}{error}{undone}").unwrap();
    }
    for leg in finance.legs(&id).await.iter().filter(|leg| is_told(leg)) {
        writeln!(out, "  leg {leg}").unwrap();
    }
    for event in events_of(finance, &saga, reason).await {
        writeln!(out, "  event {event}").unwrap();
    }
    writeln!(
        out,
        "  {from} has {}, {to} has {}",
        finance.has(from).await,
        finance.has(to).await
    )
    .unwrap();
}

async fn saga_of(finance: &Outside, id: &str) -> Value {
    let found = finance
        .admin
        .get(&format!("/api/v1/sagas?key={id}"))
        .await
        .expect(200);
    let id = found["sagas"][0]["id"].as_str().unwrap();
    finance
        .admin
        .get(&format!("/api/v1/sagas/transaction-service/{id}"))
        .await
        .expect(200)
}

/// The types of a transfer's events, once the last of each service is there.
async fn events_of(finance: &Outside, saga: &Value, reason: &str) -> Vec<String> {
    let path = format!(
        "/api/v1/events?correlation_id={}",
        saga["correlation_id"].as_str().unwrap()
    );
    let read = async || {
        let events = finance.admin.get(&path).await.expect(200);
        let events = events["events"].as_array().unwrap().iter();
        let mut types: Vec<String> = events
            .map(|event| event["type"].as_str().unwrap().to_owned())
            .collect();
        types.sort();
        types
    };
    // What is received is told to both, and so is what is held and given back.
    let last: &[(&str, usize)] = match reason {
        "" => &[("transaction:completed", 1), ("wallet:updated", 2)],
        "providers_exhausted" => &[("transaction:failed", 1), ("wallet:updated", 2)],
        "recipient_blocked" | "amount_too_large" => {
            &[("transaction:failed", 1), ("compliance:flagged", 1)]
        }
        _ => &[("transaction:failed", 1)],
    };
    eventually(SOON, async || {
        let told = read().await;
        let count = |what: &str| told.iter().filter(|one| *one == what).count();
        last.iter().all(|(what, least)| count(what) >= *least)
    })
    .await;
    read().await
}

/// What a transaction's chains say of it.
async fn standing(finance: &Outside, from: &str, to: &str, amount: &str) -> String {
    let id = finance.sends(from, to, amount).await;
    let path = format!("/api/v1/transactions/{id}/status");
    let status = finance.caller(from, &[]).get(&path).await.expect(200);
    let legs = status["legs"].as_array().unwrap().iter().map(|leg| {
        // How it was found out that nobody answers depends on who else has asked.
        let said = leg["status"].as_str().unwrap_or("nothing");
        format!("{} {said}", leg["leg"].as_str().unwrap())
    });
    let legs: Vec<String> = legs.collect();
    format!("{} (all answered: {})", legs.join(", "), status["complete"])
}

/// What is refused, and how.
async fn refusals(finance: &Outside, out: &mut String) {
    writeln!(out).unwrap();
    let body = json!({
        "recipient": "ada", "from": "ethereum", "to": "solana",
        "amount": { "amount": "1", "currency": "USDC" },
    });
    let ada = finance
        .caller("ada", &[])
        .with("idempotency-key", "refused");
    for (about, answer) in [
        (
            "to herself",
            ada.post("/api/v1/transactions", body.clone()).await,
        ),
        (
            "without a token",
            finance
                .gateway
                .post("/api/v1/transactions", body.clone())
                .await,
        ),
        ("a hold", ada.post("/api/v1/holds", body).await),
        ("the ledger", ada.get("/api/v1/wallet/ledger").await),
        (
            "an unknown transaction",
            ada.get("/api/v1/transactions/tx_0").await,
        ),
    ] {
        let code = answer.json()["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        writeln!(out, "{about}: {} {code}", answer.status.as_u16()).unwrap();
    }
}
