//! gRPC through the gateway: trailers, streams both ways, deadlines and refusals.

use std::collections::HashMap;
use std::pin::Pin;

use axum::Router;
use axum::body::Body;
use axum::routing::post_service;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Response, Status, Streaming};
use trunkline_call::grpc::GrpcChannel;
use trunkline_call::{Network, Responses, server};
use trunkline_core::Env;
use trunkline_gateway::{Config, Limits, Route};
use trunkline_telemetry::Telemetry;
use trunkline_testproto::stock::stock_client::StockClient;
use trunkline_testproto::stock::stock_server::{Stock, StockServer};
use trunkline_testproto::stock::{Level, Line, Reserved};

use crate::h2;
use crate::kit::{Kit, SOON, config, start_at, start_with, with_url};

/// A stockroom that does what its goods are called.
#[derive(Clone)]
struct Room;

type Levels = Pin<Box<dyn Stream<Item = Result<Level, Status>> + Send>>;

fn level(sku: &str, quantity: i64) -> Level {
    Level {
        sku: sku.to_owned(),
        quantity,
        padding: Vec::new(),
    }
}

fn line(sku: &str, quantity: i64) -> Line {
    Line {
        sku: sku.to_owned(),
        quantity,
        padding: Vec::new(),
    }
}

#[tonic::async_trait]
impl Stock for Room {
    async fn reserve(&self, request: tonic::Request<Line>) -> Result<Response<Reserved>, Status> {
        let metadata = request.metadata().clone().into_headers();
        let seen: HashMap<String, String> = metadata
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        let line = request.into_inner();
        match &*line.sku {
            "closed" => return Err(Status::failed_precondition("the shelf is closed")),
            "hangs" => std::future::pending::<()>().await,
            _ => {}
        }
        let id = format!("{}-{}", line.sku, line.quantity);
        Ok(Response::new(Reserved { id, seen }))
    }

    type WatchStream = Levels;

    async fn watch(&self, request: tonic::Request<Line>) -> Result<Response<Levels>, Status> {
        let Line { sku, quantity, .. } = request.into_inner();
        let name = sku.clone();
        let levels = stream::iter(1..=quantity).map(move |quantity| Ok(level(&name, quantity)));
        let rest: Levels = match &*sku {
            "breaks" => Box::pin(stream::once(async { Err(Status::data_loss("torn")) })),
            "pauses" => Box::pin(stream::pending()),
            _ => Box::pin(stream::empty()),
        };
        Ok(Response::new(Box::pin(levels.chain(rest))))
    }

    async fn receive(
        &self,
        request: tonic::Request<Streaming<Line>>,
    ) -> Result<Response<Level>, Status> {
        let mut lines = request.into_inner();
        let mut sum = level("", 0);
        while let Some(line) = lines.message().await? {
            sum = level(&line.sku, sum.quantity + line.quantity);
        }
        Ok(Response::new(sum))
    }

    type CountStream = Levels;

    async fn count(
        &self,
        request: tonic::Request<Streaming<Line>>,
    ) -> Result<Response<Levels>, Status> {
        let levels = request.into_inner().scan(0, |sum, line| {
            let level = line.map(|line| {
                *sum += line.quantity;
                level(&line.sku, *sum)
            });
            std::future::ready(Some(level))
        });
        Ok(Response::new(Box::pin(levels)))
    }

    async fn look(&self, request: tonic::Request<Line>) -> Result<Response<Level>, Status> {
        let line = request.into_inner();
        Ok(Response::new(level(&line.sku, line.quantity)))
    }
}

pub(crate) fn room() -> Router {
    let methods = ["Reserve", "Watch", "Receive", "Count", "Look"];
    methods.iter().fold(Router::new(), |router, method| {
        let path = format!("/stock.v1.Stock/{method}");
        router.route(&path, post_service(StockServer::new(Room)))
    })
}

fn stock() -> Route {
    Route::new("stock", "/stock.v1.Stock").keep_path()
}

/// A client that knows the gateway alone.
fn client(kit: &Kit) -> StockClient<GrpcChannel> {
    let env = Env::system();
    let network = Network::new(Telemetry::new(env.clone()), env);
    let url = format!("http://{}", kit.address);
    network.remote("gateway", &url, Responses::Plain).unwrap();
    StockClient::new(network.channel("client", "gateway").grpc())
}

/// The same case with the service in this process, elsewhere, and at an address of the file.
async fn all_ways<W: Future<Output = ()>>(config: Config, case: impl Fn(Kit) -> W) {
    case(start_with(config.clone(), room(), Limits::default()).await).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serves = server::serve(listener, room(), stop.clone().cancelled_owned());
    let server = JoinSet::from_iter([serves]);
    case(start_at(config.clone(), address, Limits::default()).await).await;
    let named = with_url(config, &format!("grpc://{address}"));
    case(start_with(named, room(), Limits::default()).await).await;
    stop.cancel();
    server.join_all().await;
}

fn shown(levels: &[Result<Level, Status>]) -> Vec<String> {
    let show = |level: &Result<Level, Status>| match level {
        Ok(level) => format!("{} {}", level.sku, level.quantity),
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    };
    levels.iter().map(show).collect()
}

#[tokio::test]
async fn all_kinds_of_streaming_go_through() {
    all_ways(config([stock()]), |kit| async move {
        let mut client = client(&kit);
        let reserved = client.reserve(line("tea", 2)).await.unwrap().into_inner();
        assert_eq!(reserved.id, "tea-2");
        let lines = || stream::iter((1..=4).map(|quantity| line("tea", quantity)));
        let received = client.receive(lines()).await.unwrap().into_inner();
        assert_eq!((&*received.sku, received.quantity), ("tea", 10));
        for (sku, told) in [
            ("tea", &["tea 1", "tea 2"][..]),
            ("breaks", &["breaks 1", "breaks 2", "DataLoss: torn"][..]),
        ] {
            let watched = client.watch(line(sku, 2)).await.unwrap().into_inner();
            assert_eq!(shown(&watched.collect::<Vec<_>>().await), told);
        }
        let closed = client.reserve(line("closed", 1)).await.unwrap_err();
        assert_eq!(closed.code(), Code::FailedPrecondition);
        assert_eq!(closed.message(), "the shelf is closed");
        // Each question is answered before the next is asked.
        let (mut ask, asked) = futures::channel::mpsc::channel(1);
        ask.try_send(line("tea", 1)).unwrap();
        let mut counted = client.count(asked).await.unwrap().into_inner();
        for quantity in 1..=3 {
            let level = counted.message().await.unwrap().unwrap();
            assert_eq!(level.quantity, quantity);
            ask.try_send(line("tea", 1)).unwrap();
        }
        drop(ask);
        assert_eq!(counted.message().await.unwrap().unwrap().quantity, 4);
        assert!(counted.message().await.unwrap().is_none());
    })
    .await;
}

/// A message as it stands in a body.
pub(crate) fn message(line: &Line) -> Bytes {
    let encoded = tonic::codegen::Bytes::from(encode(line));
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(encoded.len()).unwrap());
    bytes.put_slice(&encoded);
    bytes.freeze()
}

/// `sku` and `quantity` as protobuf writes them.
fn encode(line: &Line) -> Vec<u8> {
    let mut bytes = vec![0x0a, u8::try_from(line.sku.len()).unwrap()];
    bytes.extend(line.sku.as_bytes());
    bytes.extend([0x10, u8::try_from(line.quantity).unwrap()]);
    bytes
}

/// One call, as nobody's library makes it: the head of the answer, its body and its trailers.
async fn raw(
    kit: &Kit,
    method: &str,
    line: &Line,
    headers: &[(&str, &str)],
) -> (HeaderMap, Bytes, HeaderMap) {
    let stream = tokio::net::TcpStream::connect(kit.address).await.unwrap();
    let (mut sender, _drives) = h2::client(stream).await;
    let mut request = Request::post(format!("http://shop/stock.v1.Stock/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(message(line))).unwrap();
    let answer = tokio::time::timeout(SOON, sender.send_request(request)).await;
    let (head, body) = answer.unwrap().unwrap().into_parts();
    assert_eq!(head.status, 200);
    let collected = tokio::time::timeout(SOON, body.collect()).await.unwrap();
    let collected = collected.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    (head.headers, collected.to_bytes(), trailers)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn what_is_refused_is_a_status_and_no_body() {
    let closed = |name: &str| Route::new(name, format!("/{name}")).keep_path();
    let guarded = closed("stock.v1.Stock/Watch").plugin("jwt", json!({}));
    let limited = closed("stock.v1.Stock/Look").plugin("rate-limiting", json!({"hour": 1}));
    let ended = closed("stock.v1.Stock/Receive").plugin(
        "request-termination",
        json!({"status_code": 503, "message": "closed for today"}),
    );
    let kit = start_with(config([guarded, limited, ended]), room(), Limits::default()).await;
    let cases = [
        ("Reserve", "12", "no route leads to this method"),
        ("Watch", "16", ""),
        ("Receive", "14", ""),
    ];
    for (method, status, said) in cases {
        let (head, body, trailers) = raw(&kit, method, &line("tea", 1), &[]).await;
        assert_eq!(text(&head, "grpc-status"), status, "{method}: {head:?}");
        assert!(body.is_empty() && trailers.is_empty(), "{method}");
        assert_eq!(text(&head, "content-type"), "application/grpc");
        assert!(head.contains_key("x-request-id"));
        let message = text(&head, "grpc-message");
        assert!(
            !message.is_empty() && message.replace("%20", " ").contains(said),
            "{head:?}"
        );
    }
    let (_, _, trailers) = raw(&kit, "Look", &line("tea", 1), &[]).await;
    assert_eq!(text(&trailers, "grpc-status"), "0");
    let (head, ..) = raw(&kit, "Look", &line("tea", 1), &[]).await;
    assert_eq!(text(&head, "grpc-status"), "8", "{head:?}");
    let status = client(&kit).watch(line("tea", 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_deadline_is_kept_and_passed_on_as_what_is_left() {
    all_ways(config([stock()]), |kit| async move {
        // Before the answer begins, and after.
        let soon = [("grpc-timeout", "150m")];
        let (head, ..) = raw(&kit, "Reserve", &line("hangs", 1), &soon).await;
        assert_eq!(text(&head, "grpc-status"), "4", "{head:?}");
        let (_, body, trailers) = raw(&kit, "Watch", &line("pauses", 2), &soon).await;
        assert!(!body.is_empty());
        assert_eq!(text(&trailers, "grpc-status"), "4", "{trailers:?}");
        let later = [("grpc-timeout", "60S")];
        let (_, body, _) = raw(&kit, "Reserve", &line("tea", 1), &later).await;
        let said = String::from_utf8_lossy(&body).into_owned();
        let left = said.split("grpc-timeout").nth(1).unwrap();
        let digits = |letter: &char| letter.is_ascii_digit();
        let left = left.chars().skip_while(|letter| !digits(letter));
        let left: u64 = left.take_while(digits).collect::<String>().parse().unwrap();
        assert!((50_000..60_000).contains(&left), "{said:?}");
        // A time that is up is not sent on.
        let gone = [("grpc-timeout", "0n")];
        let (head, ..) = raw(&kit, "Reserve", &line("tea", 1), &gone).await;
        assert_eq!(text(&head, "grpc-status"), "4", "{head:?}");
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_says_nothing_has_an_hour() {
    let kit = start_with(config([stock()]), room(), Limits::default()).await;
    let (_, body, _) = raw(&kit, "Reserve", &line("tea", 1), &[]).await;
    let text = String::from_utf8_lossy(&body).into_owned();
    assert!(text.contains("3600000m"), "{text}");
    assert!(text.contains("trailers"), "te is told: {text}");
}

const PYTHON: &str = r#"
import sys, grpc
channel = grpc.insecure_channel(sys.argv[1])
raw = dict(request_serializer=lambda m: m, response_deserializer=lambda m: m)
line = lambda sku, quantity: b"\n" + bytes([len(sku)]) + sku + b"\x10" + bytes([quantity])
call = lambda kind, method: getattr(channel, kind)("/stock.v1.Stock/" + method, **raw)
print("reserved", b"tea-2" in call("unary_unary", "Reserve")(line(b"tea", 2), timeout=10))
print("watched", [m[-1] for m in call("unary_stream", "Watch")(line(b"tea", 3), timeout=10)])
print("received", call("stream_unary", "Receive")(iter([line(b"tea", 4), line(b"tea", 5)]), timeout=10)[-1])
print("counted", [m[-1] for m in call("stream_stream", "Count")(iter([line(b"tea", 4), line(b"tea", 5)]), timeout=10)])
for method, sku, timeout in (("Reserve", b"closed", 10), ("Nothing", b"tea", 10), ("Reserve", b"hangs", 0.2)):
    try:
        call("unary_unary", method)(line(sku, 1), timeout=timeout)
    except grpc.RpcError as error:
        print(method, sku.decode(), error.code().name)
"#;

#[tokio::test]
async fn a_client_of_python_calls_through_it() {
    let kit = start_with(config([stock()]), room(), Limits::default()).await;
    let mut python = trunkline_testkit::python::program(PYTHON);
    let address = kit.address.to_string();
    let said = tokio::task::spawn_blocking(move || python.arg(address).output());
    let said = tokio::time::timeout(SOON * 3, said).await.unwrap();
    let said = said.unwrap().unwrap();
    let told = String::from_utf8_lossy(&said.stdout).into_owned();
    let failed = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{told}\n{failed}");
    let expected = [
        "reserved True",
        "watched [1, 2, 3]",
        "received 9",
        "counted [4, 9]",
        "Reserve closed FAILED_PRECONDITION",
        "Nothing tea UNIMPLEMENTED",
        "Reserve hangs DEADLINE_EXCEEDED",
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
}
