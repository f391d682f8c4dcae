//! `trunkline projection`: what it prints and what it asks.

use serde_json::{Value, json};

use crate::kit::Admin;

#[tokio::test]
async fn projections_are_listed_for_people_and_for_programs() {
    let row = json!({ "service": "games", "name": "lobby", "version": 2, "position": 40, "behind": 1,
        "rebuilding": 12, "error": null });
    let answer = json!({ "projections": [row],
        "unreachable": [{ "service": "far", "error": "nobody answers" }] });
    let admin = Admin::start(200, answer.clone()).await;
    let ran = admin.run(&["projection", "list"]).await;
    assert_eq!(
        ran.out,
        "\
SERVICE  PROJECTION  VERSION  POSITION  BEHIND  REBUILDING  ERROR
games    lobby       2        40        1       12          -
"
    );
    assert!(ran.err.contains("far does not answer"), "{ran:?}");
    let ran = admin.run(&["--json", "projection", "list"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), answer);
}

#[tokio::test]
async fn one_is_built_anew() {
    let admin = Admin::start(200, json!({ "done": "rebuild", "name": "lobby" })).await;
    let rebuild = ["projection", "rebuild", "a/b", "lobby", "--by", "ann"];
    let ran = admin.run(&rebuild).await;
    assert_eq!(
        (ran.code, &*ran.out),
        (Some(0), "rebuild: lobby\n"),
        "{ran:?}"
    );
    let asked = admin.asked();
    assert!(
        asked[0].starts_with("POST /api/v1/projections/a%2Fb/lobby/rebuild"),
        "{asked:?}"
    );
    assert_eq!(
        admin.run(&["projection", "rebuild", "a"]).await.code,
        Some(2)
    );
}
