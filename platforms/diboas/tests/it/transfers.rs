//! Transfers from one chain to another.

use serde_json::json;

use crate::finance::TestFinance;

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_leaves_crosses_and_arrives() {
    let finance = TestFinance::start().await;
    finance.deposits("ada", "250").await;
    let id = finance.sends("ada", "bob", "100.5").await;
    let done = finance.ended(&id).await;
    assert_eq!(done["status"], "completed", "{done}");
    finance.comes_to_have("bob", "100.500000").await;
    assert_eq!(finance.has("ada").await, "149.500000");
    assert_eq!(finance.held().await, "0.000000");
    let legs = [
        "meridian bridge done",
        "meridian source done",
        "meridian target done",
    ];
    assert_eq!(finance.legs(&id).await, legs);
    let path = format!("/api/v1/transactions/{id}/status");
    let status = finance.caller("ada", &[]).get(&path).await.expect(200);
    assert_eq!(status["complete"], true);
    assert_eq!(status["legs"].as_array().unwrap().len(), 3);
    let trace = finance.trace_of("transaction:completed").await;
    for hop in [
        "hold",
        "source at meridian",
        "bridge at meridian",
        "target at meridian",
        "complete",
    ] {
        assert!(trace.contains(hop), "{hop} is missing in\n{trace}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_less_sends_nothing_and_all_is_undone() {
    let finance = TestFinance::start().await;
    finance.deposits("ada", "10").await;
    let id = finance.sends("ada", "bob", "11").await;
    let failed = finance.ended(&id).await;
    assert_eq!(
        (&failed["status"], &failed["reason"]),
        (&json!("failed"), &json!("funds_insufficient"))
    );
    assert_eq!(finance.has("ada").await, "10.000000");
    assert_eq!(finance.legs(&id).await, Vec::<String>::new());
    assert_eq!(finance.held().await, "0.000000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_refuses_is_replaced_and_there_is_one_effect() {
    let finance = TestFinance::start().await;
    finance.deposits("ada", "50").await;
    finance.provider_is("meridian", "refusing").await;
    let id = finance.sends("ada", "bob", "20").await;
    assert_eq!(finance.ended(&id).await["status"], "completed");
    let legs = [
        "polaris bridge done",
        "polaris source done",
        "polaris target done",
    ];
    assert_eq!(finance.legs(&id).await, legs);
    finance.comes_to_have("bob", "20.000000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_forgets_to_answer_is_taken_back_before_the_next_is_asked() {
    let finance = TestFinance::start().await;
    finance.deposits("ada", "50").await;
    finance.provider_is("meridian", "forgetful").await;
    let id = finance.sends("ada", "bob", "20").await;
    assert_eq!(finance.ended(&id).await["status"], "completed");
    let mut done = finance.legs(&id).await;
    done.retain(|leg| leg.ends_with("done"));
    assert_eq!(done.len(), 3, "{:?}", finance.legs(&id).await);
    let reversed = finance.legs(&id).await;
    assert!(
        reversed.contains(&"meridian source reversed".to_owned()),
        "{reversed:?}"
    );
    finance.comes_to_have("bob", "20.000000").await;
    assert_eq!(finance.held().await, "0.000000");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_no_provider_takes_a_leg_the_earlier_ones_are_taken_back() {
    let finance = TestFinance::start().await;
    finance.deposits("ada", "50").await;
    finance.all_providers_are("refusing").await;
    let id = finance.sends("ada", "bob", "20").await;
    let failed = finance.ended(&id).await;
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["reason"], "providers_exhausted");
    assert_eq!(finance.has("ada").await, "50.000000");
    assert_eq!(finance.has("bob").await, "0");
    assert_eq!(finance.held().await, "0.000000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_told_although_a_chain_does_not_answer() {
    let finance = TestFinance::start().await;
    finance.deposits("ada", "50").await;
    let id = finance.sends("ada", "bob", "20").await;
    assert_eq!(finance.ended(&id).await["status"], "completed");
    finance.provider_is("meridian", "down").await;
    let path = format!("/api/v1/transactions/{id}/status");
    let status = finance.caller("ada", &[]).get(&path).await.expect(200);
    assert_eq!(status["status"], "completed");
    assert_eq!(status["complete"], false);
    for leg in status["legs"].as_array().unwrap() {
        assert!(
            leg["error"].is_string() && leg["status"].is_null(),
            "{status}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compliance_stops_what_may_not_go() {
    let finance = TestFinance::start().await;
    finance.deposits("ada", "20000").await;
    for (to, amount, reason) in [
        ("mallory", "5", "recipient_blocked"),
        ("bob", "10000", "amount_too_large"),
    ] {
        let id = finance.sends("ada", to, amount).await;
        let failed = finance.ended(&id).await;
        assert_eq!(failed["reason"], reason, "{failed}");
    }
    assert_eq!(finance.has("ada").await, "20000.000000");
}
