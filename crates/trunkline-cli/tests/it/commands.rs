use serde_json::{Value, json};

use crate::kit::Admin;

fn letter() -> Value {
    json!({
        "id": "L1", "group": "payment-service", "key": "order-7", "error": "card \u{1b}[31mdeclined",
        "code": "declined", "attempts": 3, "replays": 1,
        "parked_at": "2026-01-01T00:00:00Z", "failed_at": "2026-01-01T00:00:01Z",
        "retry": "transient", "recoveries": 2, "decided_at": "2026-01-01T00:00:02Z",
        "retry_at": "2026-01-01T00:01:00Z",
        "event": { "id": "E1", "type": "order.created", "version": "1.0", "source": "order-service",
            "time": "2026-01-01T00:00:00Z", "topic": "order-events", "key": "order-7",
            "correlation_id": "C1", "causation_id": null, "traceparent": null, "data": { "total": 5 } }
    })
}

#[tokio::test]
async fn dead_letters_are_listed_for_people_and_for_programs() {
    let behind = json!({ "id": "L2", "group": "payment-service", "key": "order-7", "error": null,
        "attempts": 0, "replays": 0, "event": { "type": "order.paid" } });
    let answer = json!({ "dead_letters": [letter(), behind], "next": null });
    let admin = Admin::start(200, answer.clone()).await;
    let ran = admin
        .run(&[
            "dead-letters",
            "list",
            "--group",
            "payment-service",
            "--type",
            "order created",
        ])
        .await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(
        ran.out,
        "\
ID  GROUP            KEY      EVENT          ATTEMPTS  REPLAYS  RETRY AT              ERROR
L1  payment-service  order-7  order.created  3         1        2026-01-01T00:01:00Z  card  [31mdeclined
L2  payment-service  order-7  order.paid     0         0        -                     waits behind an earlier letter of its key
"
    );
    assert_eq!(
        admin.asked(),
        ["GET /api/v1/dead-letters?group=payment-service&type=order+created"]
    );
    let ran = admin.run(&["--json", "dead-letters", "list"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), answer);
}

#[tokio::test]
async fn one_letter_is_shown_with_its_event_and_can_be_edited() {
    let admin = Admin::start(200, letter()).await;
    let ran = admin.run(&["dead-letters", "show", "a/b"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for said in [
        "attempts              3",
        "retry                 transient",
        "recoveries            2",
        "decided_at            2026-01-01T00:00:02Z",
        "event correlation_id  C1",
        "\"total\": 5",
    ] {
        assert!(ran.out.contains(said), "{said}\n{}", ran.out);
    }
    let edit = ["dead-letters", "edit", "L1", "--data", "{\"total\": 6}"];
    assert_eq!(admin.run(&edit).await.code, Some(0));
    let wrong = admin
        .run(&["dead-letters", "edit", "L1", "--data", "{total: 6}"])
        .await;
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.err.contains("not JSON"), "{wrong:?}");
    assert_eq!(
        admin.asked(),
        [
            "GET /api/v1/dead-letters/a%2Fb",
            "POST /api/v1/dead-letters/L1/edit {\"data\":{\"total\":6}}"
        ]
    );
}

#[tokio::test]
async fn a_replay_is_asked_for_as_it_is_meant() {
    let group = json!({ "group": "payment-service", "dry_run": true, "interrupted": false, "keys": 2,
        "freed": 1, "replayed": 4, "failed": 1, "refused": 0, "letters": [] });
    let admin = Admin::start(200, json!({ "groups": [group] })).await;
    let ran = admin
        .run(&[
            "dead-letters",
            "replay",
            "--key",
            "order-7",
            "--dry-run",
            "--rate",
            "5",
        ])
        .await;
    assert_eq!(
        ran.code,
        Some(1),
        "a letter that fails again is told: {ran:?}"
    );
    assert!(
        ran.out
            .contains("payment-service  2     1      4         1"),
        "{}",
        ran.out
    );
    assert!(ran.err.contains("nothing was replayed"), "{ran:?}");
    assert_eq!(
        admin.asked(),
        [
            "POST /api/v1/dead-letters/replay {\"dry_run\":true,\"force\":false,\"key\":\"order-7\",\"rate_per_second\":5}"
        ]
    );
}

#[tokio::test]
async fn nothing_is_replayed_or_discarded_by_an_empty_command() {
    let admin = Admin::start(200, json!({})).await;
    for args in [
        &["dead-letters", "replay"][..],
        &["dead-letters", "replay", "--rate", "0", "--all"],
        &["dead-letters", "replay", "--all", "--key", "a"],
        &["dead-letters", "discard"],
        &["dead-letters", "edit", "L1"],
    ] {
        assert_eq!(admin.run(args).await.code, Some(2), "{args:?}");
    }
    assert!(admin.asked().is_empty());
    let admin = Admin::start(200, json!({ "discarded": 3 })).await;
    let ran = admin
        .run(&["dead-letters", "discard", "--key", "order-7"])
        .await;
    assert_eq!(ran.out, "3 discarded\n");
    admin.run(&["dead-letters", "discard", "L1"]).await;
    assert_eq!(
        admin.asked(),
        [
            "POST /api/v1/dead-letters/discard {\"key\":\"order-7\"}",
            "POST /api/v1/dead-letters/L1/discard {}"
        ]
    );
}

#[tokio::test]
async fn events_come_with_the_newest_last() {
    let event = |position: u64, kind: &str| {
        json!({ "position": position, "type": kind, "time": "2026-01-01T00:00:00Z",
            "source": "order-service", "key": "order-7", "correlation_id": "C1" })
    };
    let answer =
        json!({ "events": [event(2, "order.confirmed"), event(1, "order.created")], "next": null });
    let admin = Admin::start(200, answer).await;
    let ran = admin.run(&["events", "--correlation-id", "C1"]).await;
    let kinds: Vec<_> = ran
        .out
        .lines()
        .map(|line| line.split_whitespace().nth(1).unwrap())
        .collect();
    assert_eq!(kinds, ["order.created", "order.confirmed"]);
    assert_eq!(
        admin.asked(),
        ["GET /api/v1/events?correlation_id=C1&limit=20&newest_first=true"]
    );
}

#[tokio::test]
async fn a_flow_tells_its_story() {
    let answer = json!({ "trail_lag": 4, "flows": [{
        "flow": "order", "key": "order-7", "correlation_ids": ["C1"], "state": "stuck",
        "events": [
            { "type": "order.created", "source": "order-service", "time": "T1", "depth": 0 },
            { "type": "payment.success", "source": "payment-service", "time": "T2", "depth": 1 }
        ],
        "expected": [{ "one_of": ["order.confirmed"], "after": "payment.success", "due": "T3", "overdue": true }],
        "stuck_on": [{ "kind": "dead_letter", "at": "order-service", "reason": "no such order" }]
    }] });
    let admin = Admin::start(200, answer).await;
    let ran = admin.run(&["flows", "show", "order-7"]).await;
    assert_eq!(
        ran.out,
        "\
order order-7: stuck
  T1  order.created  (order-service)
  T2    payment.success  (payment-service)
  expected: order.confirmed after payment.success, by T3, overdue
  stuck on: dead_letter at order-service: no such order
"
    );
    assert!(ran.err.contains("4 events behind"), "{ran:?}");
    let ran = admin.run(&["flows", "list", "--state", "stuck"]).await;
    assert!(
        ran.out
            .contains("order  order-7  stuck  2       no such order"),
        "{}",
        ran.out
    );
    let wrong = admin.run(&["flows", "list", "--state", "stcuk"]).await;
    assert_eq!(wrong.code, Some(2));
}

#[tokio::test]
async fn subscriptions_are_listed_paused_and_resumed() {
    let answer = json!({ "subscriptions": [{ "group": "order-service", "service": "order-service",
        "topics": ["order-events"], "state": "paused", "lag": null, "in_flight": 0, "retrying_keys": 0,
        "parked_keys": 2 }] });
    let admin = Admin::start(200, answer).await;
    let ran = admin
        .run(&["subscriptions", "pause", "order-service"])
        .await;
    assert_eq!(
        ran.out,
        "\
GROUP          SERVICE        STATE   LAG  IN FLIGHT  RETRYING  PARKED
order-service  order-service  paused  -    0          0         2
"
    );
    admin
        .run(&["subscriptions", "resume", "order-service"])
        .await;
    assert_eq!(
        admin.asked(),
        [
            "POST /api/v1/subscriptions/order-service/pause {}",
            "POST /api/v1/subscriptions/order-service/resume {}"
        ]
    );
}

#[tokio::test]
async fn outboxes_are_listed_and_stuck_events_named() {
    let answer = json!({ "outboxes": [{ "service": "order-service", "pending": 1, "scheduled": 2, "held": 3,
        "lag_seconds": 0.5, "last_error": null,
        "stuck": [{ "event": { "id": "E1", "type": "order.created" }, "error": "too large" }] }] });
    let admin = Admin::start(200, answer).await;
    let ran = admin.run(&["outbox", "list"]).await;
    assert!(ran.out.contains("stuck: order.created E1"), "{}", ran.out);
    assert!(ran.out.contains("too large"), "{}", ran.out);
    admin.run(&["outbox", "retry", "E1"]).await;
    assert_eq!(admin.asked()[1], "POST /api/v1/outbox/E1/retry {}");
}

#[tokio::test]
async fn audit_logs_are_listed_and_a_broken_one_is_told() {
    let answer = json!({ "entries": [{ "service": "stock-service", "position": 7, "id": "A1",
        "at": "2026-01-01T00:00:00Z", "actor": "cart-service", "action": "call", "object": "stock-service POST /holds",
        "outcome": "refused", "reason": "call_not_permitted", "correlation_id": null }] });
    let admin = Admin::start(200, answer).await;
    let ran = admin
        .run(&["audit", "list", "--outcome", "refused", "--limit", "5"])
        .await;
    for word in ["cart-service", "POST /holds", "call_not_permitted"] {
        assert!(ran.out.contains(word), "{word}\n{}", ran.out);
    }
    assert_eq!(admin.asked(), ["GET /api/v1/audit?outcome=refused&limit=5"]);

    let log = |broken| json!({ "logs": [{ "service": "stock-service", "entries": 7, "broken": broken }] });
    let sound = Admin::start(200, log(json!(null))).await;
    let ran = sound.run(&["audit", "check"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("as it was written"), "{}", ran.out);
    let broken = json!({ "position": 3, "what": "the entry was changed" });
    let broken = Admin::start(200, log(broken)).await;
    let ran = broken.run(&["audit", "check"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.out.contains("broken at 3: the entry was changed"),
        "{}",
        ran.out
    );
}
