//! A provider that fails in the middle of a transfer: the next one carries on, there is one effect, and the story can be read.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use tokio::runtime::Handle;
use trunkline::saga::Probe;
use trunkline_saga::{Body, Went};
use trunkline_testkit::http::Caller;
use trunkline_testkit::trace::way;

use crate::finance::TestFinance;

/// Meridian fails like this from the moment on when it was chosen for the bridge, and before it is asked.
struct Outage {
    mode: &'static str,
    sandbox: OnceLock<Caller>,
}

impl Probe for Outage {
    fn crashes_after(&self, went: &Went) -> bool {
        let chosen = went.entries.iter().any(|entry| match &entry.body {
            Body::Done { output, .. } => {
                entry.name == "choose for bridge" && output.text().contains("meridian")
            }
            _ => false,
        });
        if let Some(sandbox) = self.sandbox.get().filter(|_| chosen) {
            let fails = sandbox.put("/v1/faults/meridian", json!({ "mode": self.mode }));
            let answer = tokio::task::block_in_place(|| Handle::current().block_on(fails));
            answer.expect(200);
        }
        false
    }
}

/// A transfer in the middle of which meridian fails; its id.
async fn transfer(mode: &'static str) -> (TestFinance, String) {
    let outage = Arc::new(Outage {
        mode,
        sandbox: OnceLock::new(),
    });
    let probe = outage.clone();
    let finance = TestFinance::extended(|platform| platform.saga_probe(probe)).await;
    outage.sandbox.set(finance.sandbox.clone()).unwrap();
    finance.deposits("ada", "50").await;
    let id = finance.sends("ada", "bob", "20").await;
    assert_eq!(finance.ended(&id).await["status"], "completed");
    finance.settled(&id).await;
    finance.comes_to_have("bob", "20.000000").await;
    assert_eq!(finance.has("ada").await, "30.000000");
    assert_eq!(finance.held().await, "0.000000");
    (finance, id)
}

/// What the admin API tells of a transfer's saga.
async fn saga_of(finance: &TestFinance, id: &str) -> Value {
    let found = finance
        .admin
        .get(&format!("/api/v1/sagas?key={id}"))
        .await
        .expect(200);
    let saga = found["sagas"][0]["id"].as_str().unwrap();
    let path = format!("/api/v1/sagas/transaction-service/{saga}");
    finance.admin.get(&path).await.expect(200)
}

fn step<'a>(saga: &'a Value, name: &str) -> &'a Value {
    let steps = saga["steps"].as_array().unwrap();
    let found = steps.iter().find(|step| step["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is missing in {steps:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_may_have_done_is_taken_back_and_the_next_does_it() {
    let (finance, id) = transfer("forgetful").await;
    let legs = finance.legs(&id).await;
    let expected = [
        "meridian bridge reversed",
        "polaris bridge done",
        "meridian source done",
        "polaris target done",
    ];
    for leg in expected {
        assert!(
            legs.contains(&leg.to_owned()),
            "{leg} is missing in {legs:?}"
        );
    }
    assert_eq!(
        legs.len(),
        expected.len(),
        "one effect of each leg: {legs:?}"
    );

    let saga = saga_of(&finance, &id).await;
    assert_eq!(saga["state"], "completed");
    let failed = step(&saga, "bridge at meridian");
    assert_eq!(
        (&failed["state"], &failed["attempts"]),
        (&json!("failed"), &json!(2))
    );
    assert_eq!(failed["input"]["provider"], "meridian");
    let tries = failed["tries"].as_array().unwrap();
    assert_eq!(tries.len(), 2, "{failed}");
    for (number, one) in (1..).zip(tries) {
        assert_eq!(one["attempt"], number);
        assert!(one["began"].is_string() && one["at"].is_string(), "{one}");
        assert_eq!(one["error"]["code"], "provider_silent", "{one}");
    }
    assert_eq!(failed["undone"]["is_done"], true, "{failed}");
    let done = step(&saga, "bridge at polaris");
    assert_eq!(
        (&done["state"], &done["attempts"]),
        (&json!("done"), &json!(1))
    );
    assert_eq!(done["output"]["provider"], "polaris");
    for name in [
        "bridge at meridian",
        "bridge at polaris",
        "source at meridian",
    ] {
        let one = step(&saga, name);
        assert!(
            one["began"].is_string() && one["ended"].is_string(),
            "{one}"
        );
    }

    let spans = finance.spans();
    let trace = finance.trace_of("transaction:completed").await;
    let reversal = "POST /v1/{provider}/legs/{key}/reverse";
    for hop in [
        "saga cross-chain-transfer source at meridian",
        "bridge at polaris",
        "target at polaris",
    ] {
        assert!(trace.contains(hop), "{hop} is missing in\n{trace}");
    }
    assert_eq!(
        trace
            .matches(": saga cross-chain-transfer bridge at meridian")
            .count(),
        2,
        "{trace}"
    );
    let undo = "saga cross-chain-transfer undo bridge at meridian";
    let way = way(&trace, undo);
    assert!(
        way[0].contains("POST"),
        "from the customer's request on: {way:?}"
    );
    assert!(
        trace.contains("/reverse"),
        "{reversal} is missing in\n{trace}"
    );
    let failures = spans.all();
    let failures = failures.iter().filter(|span| {
        span.name == "saga cross-chain-transfer bridge at meridian" && span.error.is_some()
    });
    assert_eq!(failures.count(), 2, "both attempts are marked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_did_nothing_and_holds_nothing_up() {
    let (finance, id) = transfer("down").await;
    let legs = [
        "polaris bridge done",
        "meridian source done",
        "polaris target done",
    ];
    assert_eq!(finance.legs(&id).await, legs);
    let saga = saga_of(&finance, &id).await;
    let failed = step(&saga, "bridge at meridian");
    assert_eq!(
        failed["tries"][0]["error"]["code"], "provider_down",
        "{failed}"
    );
    assert_eq!(failed["undone"], Value::Null, "there is nothing to undo");
}
