//! What the audit log of a service says.

use axum::Json;
use trunkline_core::{Env, Error, Result};
use trunkline_security::AuditOutcome;
use trunkline_service::{Cx, Platform, Service};
use trunkline_store::{AuditLog, AuditQuery, Store};

use crate::ask::Ask;
use crate::sample::config;

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
