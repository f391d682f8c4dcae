//! `trunkline saga`: what it prints and what it asks.

use serde_json::{Value, json};

use crate::kit::Admin;

const ID: &str = "01890000-0000-7000-8000-000000000001";

fn fault(code: &str, message: &str) -> Value {
    json!({ "kind": "conflict", "retry": "permanent", "code": code, "message": message })
}

fn instance() -> Value {
    let at = |seconds: u32| format!("2026-01-01T00:00:{seconds:02}Z");
    json!({
        "id": ID, "service": "order-service", "saga": "order", "key": "ord-7", "version": 1,
        "state": "compensated", "correlation_id": "C1", "context": {}, "input": { "total": 5 },
        "status": "paying", "output": null, "error": fault("card_declined", "the card \u{1b}[31mwas declined"),
        "started_at": at(0), "changed_at": at(8), "wake_at": null, "owner": null, "parent": null,
        "steps": [
            { "name": "reserve", "place": "0", "kind": "step", "state": "done", "attempts": 2, "began": at(0),
              "ended": at(2), "due": null, "input": null, "output": "r1", "error": null,
              "tries": [{ "attempt": 1, "began": at(0), "at": at(1), "error": fault("stock_away", "nobody answers") }],
              "undone": { "is_done": true, "attempts": 1, "began": at(6), "at": at(8), "error": null } },
            { "name": "charge", "place": "1", "kind": "step", "state": "failed", "attempts": 1, "began": at(2),
              "ended": at(6), "due": null, "input": null, "output": null,
              "tries": [{ "attempt": 1, "began": at(2), "at": at(6), "error": fault("card_declined", "the card was declined") }],
              "error": fault("card_declined", "the card was declined"), "undone": null },
        ],
        "entries": [], "messages": [],
    })
}

#[tokio::test]
async fn one_saga_is_shown_along_its_time() {
    let admin = Admin::start(200, instance()).await;
    let ran = admin.run(&["saga", "show", "order-service", ID]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(
        ran.out,
        "\
order-service order ord-7: compensated

  id              01890000-0000-7000-8000-000000000001
  version         1
  correlation_id  C1
  started_at      2026-01-01T00:00:00Z
  changed_at      2026-01-01T00:00:08Z
  input           {\"total\":5}
  status          paying

STEP     KIND  STATE   TRIES  TOOK   WHEN                              UNDONE
reserve  step  done    2      2.0 s  ████████················░░░░░░░░  yes
charge   step  failed  1      4.0 s  ········████████████████········  -

reserve, attempt 1 until 2026-01-01T00:00:01Z: nobody answers (stock_away)
charge, attempt 1 until 2026-01-01T00:00:06Z: the card was declined (card_declined)
the saga: the card  [31mwas declined (card_declined)
"
    );
    assert_eq!(
        admin.asked(),
        [format!("GET /api/v1/sagas/order-service/{ID}")]
    );
}

#[tokio::test]
async fn sagas_are_listed_for_people_and_for_programs() {
    let row = json!({ "id": "I1", "service": "order-service", "saga": "order", "key": "ord-7", "state": "parked",
        "started_at": "2026-01-01T00:00:00Z", "status": null, "error": "nobody knows" });
    let answer = json!({ "sagas": [row], "next": "I1",
        "unreachable": [{ "service": "far", "error": "nobody answers" }] });
    let admin = Admin::start(200, answer.clone()).await;
    let list = ["saga", "list", "--state", "parked", "--older-than", "15m"];
    let ran = admin.run(&list).await;
    assert_eq!(
        ran.out,
        "\
ID  SERVICE        SAGA   KEY    STATE   STARTED               SAYS  ERROR
I1  order-service  order  ord-7  parked  2026-01-01T00:00:00Z  -     nobody knows
"
    );
    assert!(
        ran.err.contains("--after I1") && ran.err.contains("far does not answer"),
        "{ran:?}"
    );
    assert_eq!(
        admin.asked(),
        ["GET /api/v1/sagas?state=parked&older_than=15m"]
    );
    let ran = admin.run(&["--json", "saga", "list"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), answer);
    assert_eq!(
        admin.run(&["saga", "list", "--state", "odd"]).await.code,
        Some(2)
    );
}

#[tokio::test]
async fn a_hand_asks_for_what_is_meant() {
    let admin = Admin::start(200, json!({ "done": "skip", "id": ID })).await;
    let skip = [
        "saga",
        "skip",
        "a/b",
        ID,
        "charge",
        "--output",
        "{\"ok\":1}",
        "--by",
        "ann",
    ];
    let ran = admin.run(&skip).await;
    assert_eq!(ran.out, format!("skip: {ID}\n"), "{ran:?}");
    for args in [
        &["retry"][..],
        &["cancel", "--why", "wrong"],
        &["retry-from", "reserve"],
        &["migrate", "2"],
        &["signal", "approved", "--data", "true"],
    ] {
        let mut all = vec!["saga", args[0], "s", ID];
        all.extend(&args[1..]);
        assert_eq!(admin.run(&all).await.code, Some(0), "{args:?}");
    }
    let wrong = ["saga", "signal", "s", ID, "approved", "--data", "{"];
    assert_eq!(admin.run(&wrong).await.code, Some(2));
    let path = format!("POST /api/v1/sagas/s/{ID}");
    assert_eq!(
        admin.asked(),
        [
            format!(
                "POST /api/v1/sagas/a%2Fb/{ID}/skip {{\"by\":\"ann\",\"output\":{{\"ok\":1}},\"step\":\"charge\"}}"
            ),
            format!("{path}/retry {{}}"),
            format!("{path}/cancel {{\"why\":\"wrong\"}}"),
            format!("{path}/retry-from {{\"step\":\"reserve\"}}"),
            format!("{path}/migrate {{\"version\":2}}"),
            format!("{path}/signal {{\"data\":true,\"name\":\"approved\"}}"),
        ]
    );
}
