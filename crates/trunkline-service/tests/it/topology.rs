//! What does not fit together does not start.

use std::time::Duration;

use trunkline_core::{Event, EventData, Result};
use trunkline_saga::Flow;
use trunkline_service::{Cx, NoContent, Platform, Service};

use crate::shop::{OrderCreated, Remind};

async fn handle(_: Cx, _: Event<OrderCreated>) -> Result<()> {
    Ok(())
}

async fn obey(_: Cx, _: Event<Remind>) -> Result<()> {
    Ok(())
}

async fn nothing(_: Cx) -> Result<NoContent> {
    Ok(NoContent)
}

#[test]
fn each_mistake_is_named() {
    let refused = |platform: Platform| platform.check().unwrap_err().to_string();
    let a = || Service::new("a");
    let cases = [
        (Platform::new("p").service(a().calls("b")), "target: b"),
        (Platform::new("p").service(a().on(handle)), "event: order.created"),
        (Platform::new("p").service(a()).service(a()), "same name"),
        (Platform::new("p").service(Service::new("A b")), "lower-case"),
        (Platform::new("p").service(a().get("/x", nothing).get("/x", nothing)), "GET /x"),
        (Platform::new("p").service(a().get("x", nothing)), "starts with /"),
        (
            Platform::new("p")
                .service(a().publishes::<Remind>().on(obey))
                .service(Service::new("b").on(obey)),
            "a, b",
        ),
        (
            Platform::new("p").service(a().publishes::<OrderCreated>().on(handle).on(handle)),
            "same event",
        ),
        (
            Platform::new("p").service(a()).flow(
                Flow::named("f", "id").starts_with(OrderCreated::TYPE).succeeds_on(OrderCreated::TYPE),
            ),
            "event: order.created",
        ),
    ];
    for (platform, expected) in cases {
        let text = refused(platform);
        assert!(text.contains(expected), "{text} has no {expected}");
    }
    let ok = Platform::new("p").service(a().publishes::<OrderCreated>().on(handle)).flow(
        Flow::named("f", "id")
            .starts_with(OrderCreated::TYPE)
            .after(OrderCreated::TYPE, Duration::from_secs(1), &[OrderCreated::TYPE])
            .succeeds_on(OrderCreated::TYPE),
    );
    ok.check().unwrap();
}

#[test]
fn a_changed_schema_without_a_new_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let platform = || Platform::new("p").service(Service::new("a").publishes::<OrderCreated>());
    platform().write_schemas(dir.path()).unwrap();
    platform().schemas(dir.path()).check().unwrap();
    let file = dir.path().join("order.created").join("1.0.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("quantity", "amount")).unwrap();
    let error = platform().schemas(dir.path()).check().unwrap_err().to_string();
    assert!(error.contains("order.created") && error.contains("quantity"), "{error}");
}
