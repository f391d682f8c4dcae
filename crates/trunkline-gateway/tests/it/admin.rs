//! The admin API, and the file that it keeps in step.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tower::ServiceExt;
use trunkline_core::Env;
use trunkline_gateway::{Config, Keeper};
use trunkline_security::AdminToken;
use trunkline_testkit::eventually;

use crate::kit::{Kit, SOON, start};

const START: &str = "
_format_version: \"3.0\"
services:
- name: echo
  routes:
  - {name: first, paths: [/first]}
consumers:
- {username: ann, keyauth_credentials: [{key: ann-key}]}
";

struct Admin {
    kit: Kit,
    keeper: Keeper,
    router: Router,
    file: PathBuf,
    _folder: TempDir,
}

async fn admin(writes: bool) -> Admin {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kong.yml");
    std::fs::write(&file, START).unwrap();
    let (config, text) = Config::open(&file).unwrap();
    let kit = start(config).await;
    let keeper = Keeper::new(kit.gateway.clone(), text, Env::seeded(9)).with_file(&file, writes);
    Admin {
        router: keeper.router(Router::new(), None),
        kit,
        keeper,
        file,
        _folder: folder,
    }
}

type Answer = (StatusCode, Value);

async fn sent(router: &Router, line: &str, kind: &str, body: String) -> Answer {
    let (method, path) = line.split_once(' ').unwrap();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .body(axum::body::Body::from(body))
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let told = serde_json::from_slice(&body);
    let text = || Value::from(String::from_utf8_lossy(&body).into_owned());
    (status, told.unwrap_or_else(|_| text()))
}

impl Admin {
    async fn ask(&self, line: &str, body: Value) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        sent(&self.router, line, "application/json", body).await
    }

    async fn get(&self, path: &str) -> Value {
        let (status, told) = self.ask(&format!("GET {path}"), Value::Null).await;
        assert_eq!(status, 200, "{path}: {told}");
        told
    }

    fn on_disk(&self) -> Value {
        serde_json::to_value(Config::open(&self.file).unwrap().0).unwrap()
    }
}

#[tokio::test]
async fn what_is_made_by_the_api_serves_at_once_and_stands_in_the_file() {
    let admin = admin(true).await;
    let body = json!({ "name": "second", "paths": ["/second"], "strip_path": false });
    let (status, made) = admin.ask("POST /services/echo/routes", body).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(admin.kit.get("/second/x").await.json()["uri"], "/second/x");
    let form = "name=key-auth&config.key_names[]=apikey".to_owned();
    let kind = "application/x-www-form-urlencoded";
    let (status, made) = sent(&admin.router, "POST /routes/second/plugins", kind, form).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(admin.kit.get("/second/x").await.status, 401);
    let key = "apikey: ann-key\r\n";
    assert_eq!(admin.kit.send("GET /second/x", key, "").await.status, 200);
    let route = &admin.on_disk()["services"][0]["routes"][1];
    assert_eq!(route["name"], "second");
    assert_eq!(
        route["plugins"][0]["config"]["key_names"],
        json!(["apikey"])
    );
    // Its own file is no news to it.
    let id = made["id"].as_str().unwrap();
    let (status, _) = admin
        .ask(&format!("DELETE /plugins/{id}"), Value::Null)
        .await;
    assert_eq!(status, 204);
    assert_eq!(admin.kit.get("/second/x").await.status, 200);
    let (status, told) = admin
        .ask("PATCH /routes/second", json!({ "paths": ["/third"] }))
        .await;
    assert_eq!(
        (status, &told["paths"]),
        (StatusCode::OK, &json!(["/third"]))
    );
    admin
        .kit
        .get("/second/x")
        .await
        .is_problem(404, "route_unknown");
    assert_eq!(admin.kit.get("/third").await.status, 200);
    let put = json!({ "paths": ["/fourth"] });
    assert_eq!(
        admin.ask("PUT /services/echo/routes/fourth", put).await.0,
        200
    );
    assert_eq!(admin.kit.get("/fourth").await.status, 200);
    assert_eq!(
        admin.on_disk()["services"][0]["routes"][2]["name"],
        "fourth"
    );
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let admin = admin(false).await;
    for at in 0..7 {
        let body = json!({ "username": format!("u{at}"), "tags": [if at % 2 == 0 { "even" } else { "odd" }] });
        assert_eq!(admin.ask("POST /consumers", body).await.0, 201);
    }
    let (mut path, mut names) = ("/consumers?size=3".to_owned(), Vec::new());
    loop {
        let page = admin.get(&path).await;
        let data = page["data"].as_array().unwrap();
        assert!(data.len() <= 3);
        names.extend(
            data.iter()
                .map(|one| one["username"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut path),
            None => break,
        }
    }
    assert_eq!(names, ["ann", "u0", "u1", "u2", "u3", "u4", "u5", "u6"]);
    assert_eq!(
        admin.get("/consumers?tags=even").await["data"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    assert_eq!(
        admin.get("/consumers/ann/key-auth").await["data"][0]["key"],
        "ann-key"
    );
    // Without leave nothing is written.
    assert_eq!(std::fs::read_to_string(&admin.file).unwrap(), START);
    assert_eq!(admin.get("/status").await["configuration"]["changes"], 7);
}

/// A request, and the status and words that answer it.
const REFUSED: &[(&str, &str, u16, &str)] = &[
    (
        "POST /services",
        "{\"name\": \"echo\"}",
        409,
        "found another service with `echo`",
    ),
    (
        "POST /services",
        "{\"name\": \"x\", \"retrys\": 3}",
        422,
        "retrys: unknown field `retrys`; did you mean `retries`?",
    ),
    ("POST /services", "[1]", 422, "expected an object"),
    ("POST /services", "{", 400, "expected JSON"),
    (
        "POST /services",
        "{\"name\": \"x\", \"routes\": []}",
        422,
        "send them to /routes",
    ),
    (
        "POST /services/echo/routes",
        "{\"name\": \"r\", \"paths\": [\"x\"]}",
        422,
        "paths[0]: expected a path that begins with /",
    ),
    (
        "POST /services/gone/routes",
        "{\"name\": \"r\", \"paths\": [\"/x\"]}",
        404,
        "there is no service `gone`",
    ),
    (
        "POST /services/echo/routes",
        "{\"name\": \"r\", \"paths\": [\"/x\"], \"service\": \"other\"}",
        404,
        "no service `other`",
    ),
    (
        "POST /plugins",
        "{\"name\": \"magic\"}",
        422,
        "found `magic`",
    ),
    (
        "POST /plugins",
        "{\"name\": \"cors\", \"route\": {\"name\": \"gone\"}}",
        404,
        "there is no route `gone`",
    ),
    (
        "POST /plugins",
        "{\"name\": \"rate-limiting\", \"config\": {\"minute\": \"x\"}}",
        422,
        "config.minute",
    ),
    (
        "POST /plugins",
        "{\"id\": 5, \"name\": \"cors\"}",
        422,
        "id: expected a text",
    ),
    (
        "POST /upstreams/echo/targets",
        "{\"target\": \"a\"}",
        404,
        "there is no upstream `echo`",
    ),
    (
        "POST /consumers/ann/routes",
        "{}",
        404,
        "there is nothing here",
    ),
    ("POST /nothing", "{}", 404, "there is nothing here"),
    ("GET /services/gone", "", 404, "there is no service `gone`"),
    ("GET /services/%FF", "", 422, "percent-encoded"),
    ("GET /services/%2", "", 422, "percent-encoded"),
    ("GET /services?size=0", "", 400, "size: expected 1 to 1000"),
    ("GET /services?size=x", "", 400, "expected a number"),
    (
        "GET /services?colour=red",
        "",
        400,
        "expected size, offset or tags",
    ),
    ("PATCH /services", "{}", 405, "PATCH"),
    ("DELETE /config", "", 405, "DELETE"),
    ("POST /config", "services: [", 422, "config:2:1"),
    (
        "POST /config",
        "services: [{name: a, routes: [{name: r}]}]",
        422,
        "expected paths, hosts",
    ),
];

#[tokio::test]
async fn what_is_wrong_is_told_and_changes_nothing() {
    let admin = admin(true).await;
    for (line, body, status, words) in REFUSED {
        let (given, told) = sent(&admin.router, line, "application/json", (*body).to_owned()).await;
        let detail = told["detail"].as_str().unwrap_or_default();
        let path_code = told["code"] == "path_invalid" && given == 400;
        assert!(
            given == *status || path_code,
            "{line} {body}: {given} {told}"
        );
        assert!(detail.contains(words), "{line} {body}: {told}");
    }
    let (status, _) = sent(
        &admin.router,
        "POST /services",
        "text/plain",
        "x".to_owned(),
    )
    .await;
    assert_eq!(status, 415);
    assert_eq!(std::fs::read_to_string(&admin.file).unwrap(), START);
    assert_eq!(admin.kit.get("/first").await.status, 200);
}

#[tokio::test]
async fn nobody_overwrites_what_somebody_else_sent() {
    let admin = admin(false).await;
    let text = "services:\n- name: echo\n  routes: [{name: a, paths: [/a]}]\n";
    let request = |tag: &str| {
        Request::builder()
            .method("POST")
            .uri("/config")
            .header("if-match", format!("\"{tag}\""))
            .body(axum::body::Body::from(text))
            .unwrap()
    };
    let status = admin.get("/status").await;
    let tag = status["configuration"]["tag"].as_str().unwrap();
    let first = admin.router.clone().oneshot(request(tag)).await.unwrap();
    assert_eq!(first.status(), 201);
    let second = admin.router.clone().oneshot(request(tag)).await.unwrap();
    assert_eq!(second.status(), 409);
    assert_eq!(admin.kit.get("/a").await.status, 200);
    assert_eq!(admin.get("/config").await, text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_changes_at_once_none_is_lost() {
    let admin = Arc::new(admin(true).await);
    let mut clients = JoinSet::new();
    for at in 0..40 {
        let admin = admin.clone();
        clients.spawn(async move {
            let body = json!({ "name": format!("r{at}"), "paths": [format!("/r{at}/")] });
            let (status, told) = admin.ask("POST /services/echo/routes", body).await;
            assert_eq!(status, 201, "{told}");
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let routes = admin.on_disk()["services"][0]["routes"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(routes, 41);
    for at in 0..40 {
        assert_eq!(admin.kit.get(&format!("/r{at}/")).await.status, 200);
    }
}

#[tokio::test]
async fn a_change_that_can_not_be_written_is_taken_back() {
    let admin = admin(true).await;
    // Where the new file would be written there is a folder.
    let beside = admin.file.with_file_name(".kong.yml.new");
    std::fs::create_dir(&beside).unwrap();
    let body = json!({ "name": "second", "paths": ["/second"] });
    let (status, told) = admin.ask("POST /services/echo/routes", body.clone()).await;
    assert_eq!(
        (status, &told["code"]),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            &json!("gateway_file_unwritable")
        )
    );
    admin
        .kit
        .get("/second")
        .await
        .is_problem(404, "route_unknown");
    assert_eq!(
        admin.get("/routes").await["data"].as_array().unwrap().len(),
        1
    );
    std::fs::remove_dir(&beside).unwrap();
    assert_eq!(admin.ask("POST /services/echo/routes", body).await.0, 201);
}

#[tokio::test]
async fn a_change_whose_client_goes_away_is_made_to_its_end() {
    let admin = admin(true).await;
    let body = json!({ "name": "second", "paths": ["/second"] });
    let mut asking = Box::pin(admin.ask("POST /services/echo/routes", body));
    // It has begun, and nobody waits for it any more.
    assert!(futures::poll!(&mut asking).is_pending());
    drop(asking);
    until(&admin.kit, "/second", 200).await;
    // This one waits for that one.
    let routes = &admin.get("/routes").await["data"];
    assert_eq!(routes.as_array().unwrap().len(), 2);
    let on_disk = &admin.on_disk()["services"][0]["routes"];
    assert_eq!(on_disk.as_array().unwrap().len(), 2);
}

/// Asks until the status is this.
async fn until(kit: &Kit, path: &str, status: u16) {
    eventually(SOON, async || kit.get(path).await.status == status).await;
}

fn replace(file: &Path, text: &str) {
    let beside = file.with_extension("other");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, file).unwrap();
}

#[tokio::test]
async fn the_file_is_followed_and_what_is_wrong_in_it_is_not() {
    let admin = admin(true).await;
    let mut following = JoinSet::new();
    let keeper = admin.keeper.clone();
    following.spawn(async move { keeper.follow().await });
    replace(&admin.file, &START.replace("/first", "/moved"));
    until(&admin.kit, "/moved", 200).await;
    admin
        .kit
        .get("/first")
        .await
        .is_problem(404, "route_unknown");
    let wrong = START.replace("/first", "first");
    replace(&admin.file, &wrong);
    let is_refused = async || !admin.get("/status").await["configuration"]["refused"].is_null();
    eventually(SOON, is_refused).await;
    assert_eq!(admin.kit.get("/moved").await.status, 200);
    // What somebody has begun to write there is not written over.
    let body = json!({ "name": "second", "paths": ["/second"] });
    let (status, told) = admin.ask("POST /services/echo/routes", body.clone()).await;
    assert_eq!(
        (status, &told["code"]),
        (StatusCode::CONFLICT, &json!("gateway_file_changed"))
    );
    assert_eq!(std::fs::read_to_string(&admin.file).unwrap(), wrong);
    replace(&admin.file, START);
    until(&admin.kit, "/first", 200).await;
    assert_eq!(admin.ask("POST /services/echo/routes", body).await.0, 201);
    // A file that is gone is told of, until it is there again.
    let written = std::fs::read_to_string(&admin.file).unwrap();
    std::fs::remove_file(&admin.file).unwrap();
    eventually(SOON, is_refused).await;
    assert_eq!(admin.kit.get("/second").await.status, 200);
    replace(&admin.file, &written);
    eventually(SOON, async || !is_refused().await).await;
    assert_eq!(admin.kit.get("/second").await.status, 200);
}

#[tokio::test]
async fn a_service_is_begun_in_the_order_of_kongs_guides_and_its_last_key_is_revoked() {
    let admin = admin(false).await;
    let list = admin.get("/services").await;
    let url = list["data"][0].get("url").cloned();
    let mut service = json!({ "name": "begun" });
    service["url"] = url.unwrap_or_else(|| json!("http://127.0.0.1:9"));
    for (line, body) in [
        ("POST /services", service),
        (
            "POST /services/begun/plugins",
            json!({ "name": "key-auth" }),
        ),
        ("POST /services/begun/plugins", json!({ "name": "jwt" })),
        (
            "POST /services/begun/routes",
            json!({ "name": "begun", "paths": ["/begun"] }),
        ),
        ("POST /consumers", json!({ "username": "jason" })),
        ("POST /consumers/jason/key-auth", json!({ "key": "jasons" })),
    ] {
        let (status, told) = admin.ask(line, body).await;
        assert_eq!(status, 201, "{line} {told}");
    }
    // No token is known yet, and the platform's users have none here.
    let asked = admin.kit.send("GET /begun", "apikey: jasons\r\n", "").await;
    asked.is_problem(401, "token_missing");
    let (status, told) = admin.ask("DELETE /consumers/jason", json!({})).await;
    assert_eq!(status, 204, "{told}");
    let asked = admin.kit.send("GET /begun", "apikey: jasons\r\n", "").await;
    assert_eq!(asked.status, 401, "{asked:?}");
}

#[tokio::test]
async fn without_the_token_nothing_is_shown() {
    let admin = admin(false).await;
    let router = admin.keeper.router(
        Router::new(),
        Some(AdminToken::new("a-token-of-length").unwrap()),
    );
    for (token, status) in [
        (None, 401),
        (Some("Bearer wrong"), 401),
        (Some("Bearer a-token-of-lengtH"), 401),
        (Some("Bearer a-token-of-length"), 200),
    ] {
        let mut request = Request::builder().uri("/config");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let request = request.body(axum::body::Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{token:?}");
    }
}
