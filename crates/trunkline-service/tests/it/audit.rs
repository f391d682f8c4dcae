//! What the audit log of a service says.

use axum::Json;
use serde_json::json;
use trunkline_core::{Env, Error, Result};
use trunkline_security::AuditOutcome;
use trunkline_service::{Cx, Platform, Service};
use trunkline_store::{AuditLog, AuditQuery, Store};
use trunkline_testkit::eventually;

use crate::ask::Ask;
use crate::sample::{SOON, config};

async fn cancel(cx: Cx) -> Result<Json<()>> {
    cx.audit("order.cancel", "order-7")?;
    Ok(Json(()))
}

async fn fail(cx: Cx) -> Result<Json<()>> {
    cx.audit("order.cancel", "order-8")?;
    Err(Error::invalid("too_late", "it is on its way"))
}

async fn administer(cx: Cx) -> Result<Json<()>> {
    cx.require_role("admin")?;
    Ok(Json(()))
}

async fn stray(cx: Cx) -> Result<Json<()>> {
    cx.service("elsewhere").map(|_| Json(()))
}

#[tokio::test]
async fn changes_are_noted_with_their_work_and_refusals_always() {
    let folder = tempfile::tempdir().unwrap();
    let orders = Service::new("orders")
        .post("/cancel", cancel)
        .post("/fail", fail)
        .post("/administer", administer)
        .post("/stray", stray);
    let config = config(folder.path());
    let running = Platform::new("shop")
        .service(orders)
        .start(config)
        .await
        .unwrap();
    let ask = || {
        let ask = Ask::new(running.network().clone(), "orders");
        ask.with("x-user-id", "ada")
            .with("x-correlation-id", "flow-1")
    };
    for (path, status) in [
        ("/cancel", 200),
        ("/fail", 422),
        ("/administer", 403),
        ("/stray", 403),
    ] {
        let answer = ask().post(path, serde_json::json!(null)).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    let admin = || Ask::at(running.admin_address());
    let refused = "/api/v1/audit?outcome=refused&actor=user:ada";
    // Refusals go through a buffer.
    eventually(SOON, async || {
        let listed = admin().get(refused).await.body;
        listed["entries"]
            .as_array()
            .is_some_and(|entries| entries.len() == 2)
    })
    .await;
    let listed = admin()
        .get("/api/v1/audit?service=orders&action=call&limit=1")
        .await
        .body;
    let entry = &listed["entries"][0];
    assert_eq!(
        (&entry["service"], &entry["object"]),
        (&json!("orders"), &json!("elsewhere"))
    );
    assert_eq!(entry["correlation_id"], "flow-1");
    assert!(
        entry["reason"].is_string() && entry["at"].is_string(),
        "{entry}"
    );
    let nobodys = admin().get("/api/v1/audit?service=stock").await.body;
    assert_eq!(nobodys["entries"], json!([]));
    assert_eq!(admin().get("/api/v1/audit?outcome=odd").await.status, 422);
    let checked = admin().get("/api/v1/audit/check").await.body;
    assert_eq!(
        checked["logs"],
        json!([{ "service": "orders", "entries": 3, "broken": null }])
    );
    running.shutdown().await;

    let url = format!("sqlite:{}", folder.path().join("data/orders.db").display());
    let store = Store::open(&url, "orders", Env::system()).await.unwrap();
    let log = AuditLog::open(store, None).await.unwrap();
    assert_eq!(log.verify(None).await.unwrap().broken, None);
    let found = log.query(&AuditQuery::default()).await.unwrap();
    let mut lines: Vec<String> = found
        .iter()
        .map(|record| {
            let entry = &record.entry;
            assert_eq!(entry.correlation_id.as_deref(), Some("flow-1"));
            assert_eq!(entry.actor, "user:ada");
            assert_eq!(
                entry.reason.is_some(),
                entry.outcome == AuditOutcome::Refused
            );
            format!("{} {} {}", entry.action, entry.object, entry.outcome.name())
        })
        .collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "call elsewhere refused",
            "order.cancel order-7 done",
            "role admin refused"
        ]
    );
}
