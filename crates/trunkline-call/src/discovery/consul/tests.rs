//! Against a double of the agent's documented HTTP contract: health queries that wait, services, checks.

use std::collections::{BTreeMap, HashMap};

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use trunkline_core::Env;

use super::*;
use crate::discovery::Registration;

const COMES: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Books {
    services: BTreeMap<String, (Value, Option<Instant>)>,
    queries: Vec<HashMap<String, String>>,
    tokens: Vec<Option<String>>,
    /// Answered in place of everything else.
    instead: Option<(u16, Option<&'static str>, String)>,
}

#[derive(Clone)]
struct Double {
    books: Arc<Mutex<Books>>,
    index: watch::Sender<u64>,
}

impl Double {
    fn changed(&self) {
        self.index.send_modify(|index| *index += 1);
    }

    fn instead(&self, status: u16, index: Option<&'static str>, body: impl Into<String>) {
        self.books.lock().instead = Some((status, index, body.into()));
        self.changed();
    }

    /// Those of a name whose check passes.
    fn passing(&self, name: &str) -> Vec<Value> {
        let books = self.books.lock();
        let passing = books.services.values().filter(|(service, until)| {
            service["Name"] == *name && until.is_some_and(|until| until > Instant::now())
        });
        let entry = |(service, _): &(Value, Option<Instant>)| {
            json!({
                "Node": { "Node": "n", "Address": "10.9.9.9" },
                "Service": {
                    "ID": service["ID"], "Service": name, "Address": service["Address"],
                    "Port": service["Port"], "Weights": service["Weights"],
                },
                "Checks": [{ "CheckID": service["Check"]["CheckID"], "Status": "passing" }],
            })
        };
        passing.map(entry).collect()
    }
}

async fn health(
    State(double): State<Double>,
    Path(name): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let asked = query
        .get("index")
        .and_then(|index| index.parse().ok())
        .unwrap_or(0_u64);
    let wait = query
        .get("wait")
        .and_then(|wait| wait.strip_suffix('s')?.parse().ok());
    {
        let mut books = double.books.lock();
        books.queries.push(query);
        let token = headers
            .get("x-consul-token")
            .and_then(|token| token.to_str().ok());
        books.tokens.push(token.map(str::to_owned));
    }
    if asked > 0 {
        let mut index = double.index.subscribe();
        let changed = index.wait_for(|index| *index != asked);
        drop(timeout(Duration::from_secs(wait.unwrap_or(300)), changed).await);
    }
    if let Some((status, index, body)) = double.books.lock().instead.clone() {
        let status = StatusCode::from_u16(status).unwrap();
        let mut response = (status, body).into_response();
        if let Some(index) = index {
            response
                .headers_mut()
                .insert("x-consul-index", index.parse().unwrap());
        }
        return response;
    }
    let index = double.index.borrow().to_string();
    ([("x-consul-index", index)], Json(double.passing(&name))).into_response()
}

async fn register(State(double): State<Double>, Json(service): Json<Value>) {
    let id = service["ID"].as_str().unwrap().to_owned();
    // A check begins as critical.
    double.books.lock().services.insert(id, (service, None));
    double.changed();
}

async fn check(
    State(double): State<Double>,
    Path((word, check)): Path<(String, String)>,
) -> StatusCode {
    let mut books = double.books.lock();
    let found = books
        .services
        .values_mut()
        .find(|(service, _)| service["Check"]["CheckID"] == check);
    let Some((service, until)) = found else {
        return StatusCode::NOT_FOUND;
    };
    let ttl = service["Check"]["TTL"]
        .as_str()
        .unwrap()
        .strip_suffix("ms")
        .unwrap();
    let ttl = Duration::from_millis(ttl.parse().unwrap());
    let was = until.is_some();
    *until = (word == "pass").then(|| Instant::now() + ttl);
    let changed = was != until.is_some();
    drop(books);
    if changed {
        double.changed();
    }
    StatusCode::OK
}

async fn deregister(State(double): State<Double>, Path(id): Path<String>) -> StatusCode {
    let gone = double.books.lock().services.remove(&id);
    double.changed();
    if gone.is_some() {
        StatusCode::OK
    } else {
        StatusCode::NOT_FOUND
    }
}

/// The double, its place, and what keeps it there.
async fn start() -> (Double, String, JoinSet<()>) {
    let double = Double {
        books: Arc::default(),
        index: watch::Sender::new(7),
    };
    let router = Router::new()
        .route("/v1/health/service/{name}", get(health))
        .route("/v1/agent/service/register", put(register))
        .route("/v1/agent/service/deregister/{id}", put(deregister))
        .route("/v1/agent/check/{word}/{check}", put(check))
        .with_state(double.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(axum::serve(listener, router).await) });
    (double, place, tasks)
}

fn at(port: u16) -> Instance {
    Instance::at("10.0.0.1", port).unwrap()
}

type Lists = BoxStream<'static, Result<Vec<Instance>>>;

async fn next(lists: &mut Lists) -> Result<Vec<Instance>> {
    let next = timeout(COMES, lists.next()).await.expect("it comes");
    next.expect("the watch is open")
}

async fn until(lists: &mut Lists, expected: &[Instance]) {
    let comes = async { while next(lists).await.unwrap() != expected {} };
    timeout(COMES, comes).await.expect("it is listed");
}

#[tokio::test]
async fn an_instance_is_listed_while_it_is_registered_and_well() {
    let (double, place, _tasks) = start().await;
    let consul = Consul::from_url(&format!("consul://{place}?token=t-1&dc=eu&tag=blue")).unwrap();
    let mut lists = consul.watch("inventory-service");
    assert_eq!(next(&mut lists).await.unwrap(), []);
    let registry: Arc<dyn Registry> = Arc::new(consul);
    let one = Registration::start(
        registry.clone(),
        "inventory-service",
        at(1).with_weight(3),
        Env::system(),
    )
    .await;
    until(&mut lists, &[at(1).with_weight(3)]).await;
    let registered = double.books.lock().services["inventory-service-10.0.0.1-1"]
        .0
        .clone();
    assert_eq!(registered["Check"]["TTL"], "22500ms");
    assert_eq!(registered["Check"]["DeregisterCriticalServiceAfter"], "1m");
    one.set_healthy(false);
    until(&mut lists, &[]).await;
    one.set_healthy(true);
    until(&mut lists, &[at(1).with_weight(3)]).await;
    // An agent that forgot everything is told again by the next heartbeat.
    double.books.lock().services.clear();
    double.changed();
    until(&mut lists, &[]).await;
    registry
        .announce("inventory-service", &one.instance())
        .await
        .unwrap();
    until(&mut lists, &[at(1).with_weight(3)]).await;
    one.withdraw().await.unwrap();
    until(&mut lists, &[]).await;
    assert!(double.books.lock().services.is_empty());
    registry
        .withdraw("inventory-service", &at(1))
        .await
        .unwrap();

    let books = double.books.lock();
    assert!(
        books
            .tokens
            .iter()
            .all(|token| token.as_deref() == Some("t-1"))
    );
    let query = books.queries.last().unwrap();
    for (key, value) in [
        ("passing", "true"),
        ("dc", "eu"),
        ("tag", "blue"),
        ("wait", "30s"),
    ] {
        assert_eq!(query[key], value);
    }
}

#[tokio::test]
async fn an_index_that_steps_back_or_is_none_begins_anew() {
    let (double, place, _tasks) = start().await;
    let consul = Consul::from_url(&format!("consul://{place}/there")).unwrap();
    let mut lists = consul.watch("another-name");
    next(&mut lists).await.unwrap();
    double.instead(200, Some("3"), "[]");
    next(&mut lists).await.unwrap();
    double.instead(200, Some("0"), "[]");
    next(&mut lists).await.unwrap();
    double.instead(200, Some("x"), "[]");
    next(&mut lists).await.unwrap();
    double.books.lock().instead = None;
    next(&mut lists).await.unwrap();
    double.changed();
    next(&mut lists).await.unwrap();
    let books = double.books.lock();
    let asked: Vec<_> = books
        .queries
        .iter()
        .map(|query| query.get("index").map(String::as_str))
        .collect();
    assert_eq!(asked, [None, Some("7"), None, None, None, Some("10")]);
}

#[tokio::test]
async fn a_registry_that_lies_is_an_error_and_what_can_be_read_is_not() {
    let (double, place, _tasks) = start().await;
    let consul = Consul::from_url(&format!("consul://{place}")).unwrap();
    let entry = |address: &str, port: Value, status: &str| {
        json!({ "Node": { "Address": "n" }, "Service": { "Address": address, "Port": port },
                "Checks": [{ "Status": status }] })
    };
    for (status, body, code) in [
        (200, "no JSON".to_owned(), "registry_unreadable"),
        (200, "{\"a\": 1}".to_owned(), "registry_unreadable"),
        (200, "[1, null, {}]".to_owned(), "registry_unreadable"),
        (
            200,
            json!([entry("a b", json!(1), "passing")]).to_string(),
            "registry_unreadable",
        ),
        (200, "[".repeat(1 << 20), "registry_unreadable"),
        (200, " ".repeat((4 << 20) + 1), "registry_unreadable"),
        (500, "No cluster leader".to_owned(), "registry_refused"),
        (403, "Permission denied".to_owned(), "registry_refused"),
        (302, String::new(), "registry_refused"),
    ] {
        double.instead(status, Some("9"), body);
        let error = next(&mut consul.watch("s")).await.unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
    }
    let some = json!([
        entry("10.0.0.1", json!(1), "passing"),
        entry("10.0.0.1", json!("x"), "passing"),
        entry("10.0.0.1", json!(70_000), "passing"),
        entry("", json!(2), "passing"),
        entry("10.0.0.1", json!(3), "critical"),
        { "Service": [] },
    ]);
    double.instead(200, Some("9"), some.to_string());
    let list = next(&mut consul.watch("s")).await.unwrap();
    let on_node = Instance::at("n", 2).unwrap();
    assert_eq!(list, [at(1), on_node, at(3).with_health(false)]);
    let many: Vec<_> = (1..=5_000)
        .map(|port| entry("h", json!(port), "passing"))
        .collect();
    double.instead(200, Some("9"), json!(many).to_string());
    assert_eq!(next(&mut consul.watch("s")).await.unwrap().len(), 5_000);
}

#[tokio::test]
async fn an_agent_that_is_away_is_an_error_and_a_name_that_is_none_is_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    drop(listener);
    let consul = Consul::from_url(&format!("consul://{place}")).unwrap();
    let error = next(&mut consul.watch("s")).await.unwrap_err();
    assert_eq!(error.code(), "registry_unreachable");
    let error = next(&mut consul.watch("../kv")).await.unwrap_err();
    assert_eq!(error.code(), "discovery_invalid");
}

#[test]
fn a_wrong_url_names_the_mistake_and_never_the_token() {
    for (url, said) in [
        ("consul://", "consul://host:port"),
        ("http://h?token=hunter2", "consul://host:port"),
        ("consul://u:hunter2@h:1", "consul://host:port"),
        ("consul://h/a/b", "plain name"),
        ("consul://h?token=hunter2%20", "ACL token"),
        ("consul://h?dc=a%26b&token=hunter2", "`dc`"),
        ("consul://h?heartbeat_ms=1&token=hunter2", "4000"),
        ("consul://h?colour=red", "heartbeat_ms"),
    ] {
        let error = format!("{:?}", Consul::from_url(url).unwrap_err());
        assert!(error.contains(said), "{url}: {error}");
        assert!(!error.contains("hunter2"), "{url}: {error}");
    }
    let consul = Consul::from_url("consul://[::1]:8500/there?token=hunter2").unwrap();
    assert!(!format!("{consul:?}").contains("hunter2"));
    assert_eq!(
        Consul::from_url("consul://h").unwrap().0.agent.authority(),
        "h:8500"
    );
}
