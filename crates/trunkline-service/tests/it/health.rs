//! How services are, asked by one of them and at the admin address; some don't answer.

use std::sync::Arc;

use axum::Json;
use futures::future::{BoxFuture, join_all};
use serde_json::Value;
use trunkline_core::{Error, Result};
use trunkline_service::{Cx, Ping, Platform, Service};

use crate::sample::{Sample, Switches};

async fn pings(cx: Cx) -> Result<Json<Vec<Ping>>> {
    let services = ["asks", "well", "ill", "gone", "stranger"];
    Ok(Json(
        join_all(services.map(|service| cx.ping(service))).await,
    ))
}

fn broken() -> BoxFuture<'static, Result<()>> {
    Box::pin(async { Err(Error::unavailable("tape_torn", "the tape is torn")) })
}

fn platform() -> Platform {
    let asks = Service::new("asks")
        .calls("well")
        .calls("ill")
        .calls_external("gone", "http://127.0.0.1:1")
        .get("/pings", pings);
    Platform::new("clinic")
        .service(asks)
        .service(Service::new("well"))
        .service(Service::new("ill").check("tape", Arc::new(broken)))
}

fn of<'a>(all: &'a Value, service: &str) -> &'a Value {
    let mut all = all.as_array().unwrap().iter();
    all.find(|one| one["service"] == service).unwrap()
}

#[tokio::test]
async fn whoever_does_not_answer_is_named_and_the_others_are_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start_this(platform(), Arc::new(Switches::default()), folder).await;
    let pings = sample.ask("asks").get("/pings").await;
    assert_eq!(pings.status, 200, "{pings:?}");
    for (service, status) in [
        ("asks", "healthy"),
        ("well", "healthy"),
        ("ill", "unhealthy"),
        ("gone", "unreachable"),
        ("stranger", "unreachable"),
    ] {
        assert_eq!(
            of(&pings.body, service)["status"],
            status,
            "{service}: {pings:?}"
        );
    }
    let ill = of(&pings.body, "ill");
    assert_eq!(ill["checks"]["tape"], "the tape is torn");
    assert_eq!(ill["checks"]["database"], "ok");
    assert!(ill["latency_us"].as_u64().unwrap() > 0);
    assert!(of(&pings.body, "gone")["error"].is_string());
    let stranger = of(&pings.body, "stranger")["error"].as_str().unwrap();
    assert!(stranger.contains("does not declare"), "{stranger}");

    let health = sample.admin().get("/health").await;
    assert_eq!(
        (health.status, &health.body["status"]),
        (503, &"unhealthy".into())
    );
    let services = &health.body["services"];
    assert_eq!(services.as_array().unwrap().len(), 3, "{health:?}");
    assert_eq!(of(services, "well")["status"], "healthy");
    assert_eq!(of(services, "ill")["checks"]["tape"], "the tape is torn");
    sample.stop().await;
}
