//! gRPC services on a platform: their work commits or not, once for each key, and others find out about them.

mod python;
pub(crate) mod room;

use futures::StreamExt;
use serde_json::json;
use tempfile::TempDir;
use tonic::{Code, Request, Status};
use trunkline_call::grpc::{GrpcChannel, error};
use trunkline_call::{Client, Responses};
use trunkline_core::{Context, Env, ErrorKind};
use trunkline_service::{Running, Service};
use trunkline_testproto::stock::stock_client::StockClient;
use trunkline_testproto::stock::{DESCRIPTORS, Line, Reserved};

use self::room::{Room, line, platform};
use crate::sample::{Ask, SOON, config};

/// A platform with a room, in process and at an address.
struct Here {
    running: Running,
    _folder: TempDir,
}

impl Here {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        let listen = toml::Table::from_iter([("listen".to_owned(), "127.0.0.1:0".into())]);
        config.service.insert("room".to_owned(), listen);
        let running = platform().start(config).await.unwrap();
        let far = format!("http://{}", running.service_address("room").unwrap());
        let network = running.network();
        network.remote("far", &far, Responses::Plain).unwrap();
        Self {
            running,
            _folder: folder,
        }
    }

    fn client(&self, target: &'static str) -> StockClient<GrpcChannel> {
        // As it answers, without tries that would hide a failure.
        let channel = self.running.network().channel("test", target).bare();
        let client = Client::new(channel, Context::root(&Env::system()));
        StockClient::new(client.grpc())
    }

    async fn rows(&self) -> i64 {
        let ask = Ask::new(self.running.network().clone(), "room");
        ask.get("/rows").await.body.as_i64().unwrap()
    }

    async fn stop(self) {
        self.running.shutdown().await;
    }
}

fn keyed(key: &str, line: Line) -> Request<Line> {
    let mut request = Request::new(line);
    let key = key.parse().unwrap();
    request.metadata_mut().insert("idempotency-key", key);
    request
}

const BOTH: [&str; 2] = ["room", "far"];

#[tokio::test]
async fn an_answer_commits_what_was_done_and_an_error_undoes_it() {
    let here = Here::start().await;
    let mut events = here.running.events();
    let mut rows = 0;
    for target in BOTH {
        let mut client = here.client(target);
        let reserved = client.reserve(line("tea", 2)).await.unwrap().into_inner();
        rows += 1;
        assert_eq!(here.rows().await, rows);
        let event = tokio::time::timeout(SOON, events.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(event.event_type, "order.placed");
        let data = std::str::from_utf8(event.data.as_ref()).unwrap();
        assert!(data.contains(&reserved.id), "{data}");
        for (sku, code) in [
            ("closed", Code::FailedPrecondition),
            ("panics", Code::Internal),
            ("rogue", Code::PermissionDenied),
        ] {
            let status = client.reserve(line(sku, 1)).await.unwrap_err();
            assert_eq!(status.code(), code, "{status:?}");
            assert_eq!(here.rows().await, rows, "{sku}");
        }
    }
    here.stop().await;
}

#[tokio::test]
async fn what_a_stream_did_commits_before_its_status_and_only_with_a_good_one() {
    let here = Here::start().await;
    let mut rows = 0;
    for target in BOTH {
        let mut client = here.client(target);
        let levels = client.watch(line("tea", 3)).await.unwrap().into_inner();
        assert_eq!(levels.collect::<Vec<_>>().await.len(), 3);
        rows += 3;
        assert_eq!(here.rows().await, rows);
        let levels = client.watch(line("breaks", 3)).await.unwrap().into_inner();
        let levels: Vec<Result<_, Status>> = levels.collect().await;
        assert_eq!(
            levels.last().unwrap().as_ref().unwrap_err().code(),
            Code::FailedPrecondition
        );
        let mut levels = client.watch(line("pauses", 1)).await.unwrap().into_inner();
        levels.message().await.unwrap().unwrap();
        drop(levels);
        // The store has one writer: once it is free, what was dropped is undone.
        client.reserve(line("tea", 1)).await.unwrap();
        rows += 1;
        assert_eq!(here.rows().await, rows);
        let lines = futures::stream::iter((1..=3).map(|quantity| line("tea", quantity)));
        let sum = client.receive(lines).await.unwrap().into_inner();
        assert_eq!(sum.quantity, 6);
        rows += 1;
        assert_eq!(here.rows().await, rows);
    }
    here.stop().await;
}

#[tokio::test]
async fn a_key_has_one_effect_and_one_answer() {
    let here = Here::start().await;
    for (place, target) in BOTH.into_iter().enumerate() {
        let mut client = here.client(target);
        let before = here.rows().await;
        let key = format!("a{place}");
        let first = client.reserve(keyed(&key, line("tea", 2))).await.unwrap();
        assert!(first.metadata().get("idempotency-replayed").is_none());
        let again = client.reserve(keyed(&key, line("tea", 2))).await.unwrap();
        assert_eq!(
            again.metadata().get("idempotency-replayed").unwrap(),
            "true"
        );
        assert_eq!(again.metadata().get("x-shelf").unwrap(), "7");
        assert_eq!(again.into_inner(), first.into_inner());
        assert_eq!(here.rows().await, before + 1);

        let other = client.reserve(keyed(&key, line("tea", 3))).await;
        let other = error(other.unwrap_err());
        assert_eq!(other.code(), "idempotency_key_reused");
        let other = client.reserve(keyed("", line("tea", 3))).await;
        assert_eq!(error(other.unwrap_err()).code(), "idempotency_key_invalid");

        // A refusal is an answer and stays the same; a failure is none, and the key is free again.
        let none = format!("n{place}");
        let ids = [0, 1].map(|_| keyed(&none, line("none", 0)));
        let mut told = Vec::new();
        for request in ids {
            let status = client.reserve(request).await.unwrap_err();
            told.push((status.code(), status.message().to_owned()));
        }
        assert_eq!(told[0].0, Code::NotFound);
        assert_eq!(told[0], told[1]);
        let flaky = format!("f{place}");
        client
            .reserve(keyed(&flaky, line("flaky", 1)))
            .await
            .unwrap_err();
        client
            .reserve(keyed(&flaky, line("flaky", 1)))
            .await
            .unwrap();
        assert_eq!(here.rows().await, before + 2);
    }
    here.stop().await;
}

#[tokio::test]
async fn a_service_calls_another_by_grpc_as_it_declared() {
    let here = Here::start().await;
    let ask = Ask::new(here.running.network().clone(), "clerk");
    let answer = ask.clone().post("/orders", json!("tea")).await;
    assert_eq!(
        (answer.status, &answer.body),
        (200, &json!("tea-1")),
        "{answer:?}"
    );
    // The other's error is the clerk's own, in the form of REST.
    let answer = ask.post("/orders", json!("closed")).await;
    assert_eq!(
        (answer.status, answer.code()),
        (409, "shelf_closed"),
        "{answer:?}"
    );
    here.stop().await;
}

#[tokio::test]
async fn what_is_no_call_of_grpc_is_told_so() {
    let here = Here::start().await;
    let ask = Ask::new(here.running.network().clone(), "room");
    let answer = ask.clone().post("/stock.v1.Stock/Reserve", json!({})).await;
    assert_eq!(
        (answer.status, answer.code()),
        (415, "content_type_unsupported")
    );
    let answer = ask.get("/stock.v1.Stock/Reserve").await;
    assert_eq!((answer.status, answer.code()), (405, "method_not_allowed"));
    here.stop().await;
}

#[tokio::test]
async fn the_topology_names_services_and_methods() {
    let here = Here::start().await;
    let admin = format!("http://{}", here.running.admin_address());
    let network = here.running.network();
    network.remote("admin", &admin, Responses::Plain).unwrap();
    let answer = Ask::new(network.clone(), "admin")
        .get("/api/v1/topology")
        .await;
    let services = answer.body["services"].as_array().unwrap();
    let room = services
        .iter()
        .find(|service| service["name"] == "room")
        .unwrap();
    assert_eq!(room["grpc"][0]["service"], "stock.v1.Stock");
    let methods = room["grpc"][0]["methods"].as_array().unwrap();
    assert_eq!(methods.len(), 5);
    let watch = json!({
        "name": "Watch", "client_streaming": false, "server_streaming": true, "idempotent": false,
    });
    assert_eq!(methods[1], watch);
    here.stop().await;
}

#[test]
fn what_can_not_be_mounted_is_told_at_the_start() {
    let server = || trunkline_testproto::stock::stock_server::StockServer::new(Room);
    let check = |service: Service| {
        let platform = trunkline_service::Platform::new("x").service(service);
        platform.check().unwrap_err().to_string()
    };
    let twice = Service::new("room")
        .grpc(server(), DESCRIPTORS)
        .grpc(server(), DESCRIPTORS);
    assert!(check(twice).contains("mounted twice"));
    let without = Service::new("room").grpc(server(), &[]);
    assert!(check(without).contains("stock.v1.Stock"));
}

#[tokio::test]
async fn a_handler_outside_a_platform_has_no_work() {
    let status = trunkline_service::Cx::of(&Request::new(Reserved::default())).unwrap_err();
    assert_eq!(error(status).kind(), ErrorKind::Internal);
}
