//! Who depends on whom, by the table of the communication document.

use std::collections::BTreeSet;

use trunkline_testkit::eventually;

use crate::world::{SOON, World};

/// The document's table: service, what it depends on, and whether by events too. The gateway's row is about tokens: whoever has
/// one is let in by the key of auth-service.
const TABLE: [(&str, &[(&str, bool)]); 6] = [
    ("auth-service", &[("user-service", true)]),
    ("user-service", &[("wallet-service", false)]),
    ("game-engine-service", &[("game-state-service", false)]),
    ("game-state-service", &[("user-service", false)]),
    ("realtime-service", &[("game-state-service", true)]),
    ("wallet-service", &[]),
];

#[tokio::test(flavor = "multi_thread")]
async fn services_depend_on_each_other_as_the_document_says() {
    let world = World::start().await;
    let topology = world.admin.get("/api/v1/topology").await.expect(200);
    let services = topology["services"].as_array().unwrap();
    // Beside them is only the page, which nobody calls and which calls nobody.
    assert_eq!(services.len(), TABLE.len() + 1);
    let named = |name: &str| services.iter().find(|one| one["name"] == name).unwrap();
    let types = |name: &str, field: &str| -> BTreeSet<String> {
        let events = named(name)[field].as_array().unwrap().iter();
        events
            .map(|one| one["type"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(named(tablium::PAGE)["calls"], serde_json::json!([]));
    for (service, depends) in TABLE {
        let calls: Vec<&str> = depends.iter().map(|(on, _)| *on).collect();
        assert_eq!(
            named(service)["calls"],
            serde_json::json!(calls),
            "{service}"
        );
        for (on, by_events) in depends.iter().filter(|(_, by_events)| *by_events) {
            let one_way = types(service, "publishes")
                .intersection(&types(on, "handles"))
                .count();
            let other_way = types(on, "publishes")
                .intersection(&types(service, "handles"))
                .count();
            assert!(
                *by_events && one_way + other_way > 0,
                "{service} and {on} share no event"
            );
        }
    }
    let ada = world.user("ada").await;
    eventually(SOON, async || {
        let events = world
            .admin
            .get("/api/v1/events?type=user.registered")
            .await
            .expect(200);
        let event = &events["events"][0];
        event["source"] == "auth-service" && event["data"]["userId"] == ada.id
    })
    .await;
}
