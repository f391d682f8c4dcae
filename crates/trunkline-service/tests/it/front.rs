//! A platform's gateway by a Kong file.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use trunkline_service::Config;
use trunkline_testkit::eventually;

use crate::sample::{Ask, SOON, Sample, Switches, config, platform};

/// The platform's own services are asked for by their names, in this process or elsewhere, whatever a file says of
/// where they were; what is not the platform's is where the file says.
fn file(orders: &str, outside: u16) -> String {
    format!(
        "_format_version: \"3.0\"\nservices:\n- name: orders\n  url: http://orders.invalid:3001/api\n  routes: [{{name: o, paths: [{orders}]}}]\n- name: outside\n  url: http://127.0.0.1:{outside}/base\n  routes: [{{name: x, paths: [/x]}}]\n"
    )
}

fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, path).unwrap();
}

#[tokio::test]
async fn a_kong_file_leads_to_the_platforms_services_and_to_others_and_is_followed() {
    let outside = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = outside.local_addr().unwrap().port();
    let answer =
        axum::Router::new().fallback(async |uri: http::Uri| format!("\"outside got {uri}\""));
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move { axum::serve(outside, answer).await.unwrap() });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kong.yml");
    std::fs::write(&path, file("/shop", port)).unwrap();
    let switches = Arc::new(Switches::default());
    let by_file = |config: &mut Config| {
        config.gateway.file = Some(path.clone());
        config.gateway.write_back = true;
    };
    let sample = Sample::start_with(platform(&switches), (switches, folder), by_file).await;
    let gateway = sample.running.gateway_address().unwrap();
    let body = || json!({ "item": "tea", "quantity": 1 });
    let order = async |path: &str| Ask::at(gateway).key("k1").post(path, body()).await;
    let ordered = order("/shop/v1/orders").await;
    assert_eq!(ordered.status, 202, "{ordered:?}");
    let other = Ask::at(gateway).get("/x/y?z=1").await;
    assert_eq!(
        (other.status, &other.body),
        (200, &json!("outside got /base/y?z=1"))
    );

    replace(&path, &file("/market", port));
    eventually(SOON, async || {
        order("/market/v1/orders").await.status == 202
    })
    .await;
    assert_eq!(order("/shop/v1/orders").await.status, 404);

    let admin = || Ask::at(sample.running.admin_address());
    let route = json!({ "name": "more", "paths": ["/more"] });
    let made = admin().post("/gateway/services/orders/routes", route).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(order("/more/v1/orders").await.status, 202);
    assert!(std::fs::read_to_string(&path).unwrap().contains("/more"));
}

#[tokio::test]
async fn a_file_that_is_wrong_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kong.yml");
    for (text, has_tls, words) in [
        (
            "services:\n- {name: orders, retrys: 1}\n",
            false,
            "did you mean `retries`",
        ),
        (
            "services:\n- {name: nobody, routes: [{name: r, paths: [/]}]}\n",
            false,
            "does not have",
        ),
        (&*file("/", 1), true, "needs certificates"),
    ] {
        std::fs::write(&path, text).unwrap();
        let mut config = config(folder.path());
        config.gateway.file = Some(path.clone());
        config.gateway.tls_address = has_tls.then(|| ([127, 0, 0, 1], 0).into());
        let started = platform(&Arc::new(Switches::default())).start(config).await;
        let error = trunkline_core::report(&started.unwrap_err()).to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
}
