//! Each case runs twice, in process and over TCP, and has to end the same.

mod admission;
mod answers;
#[cfg(feature = "grpc")]
mod grpc;
mod instances;
#[cfg(feature = "tls")]
mod tls;

use std::future::Future;
use std::time::Duration;

use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use trunkline_core::{Context, Env, Error, ErrorKind, Retry};
use trunkline_telemetry::{Ring, SpanKind, Telemetry};

use crate::server::{Limits, layer, serve};
use crate::{Body, Client, Network, Problem, Responses};

fn routes() -> Router {
    Router::new()
        .route(
            "/echo",
            post(|Json(body): Json<Value>| async move { Json(body) }),
        )
        .route("/size", post(|body: Bytes| async move { Json(body.len()) }))
        .route(
            "/wrapped",
            get(|| async { Json(json!({ "data": [1, 2] })) }),
        )
        .route(
            "/context",
            get(|Extension(context): Extension<Context>| async move {
                Json(json!({
                    "correlation": &*context.correlation_id,
                    "user": context.user_id.as_deref(),
                    "trace": format!("{:032x}", context.trace.trace_id),
                    "has_deadline": context.deadline.is_some(),
                }))
            }),
        )
        .route(
            "/refuses",
            get(|| async {
                Problem(Error::conflict("order_closed", "the order is closed").with("order", 7))
            }),
        )
        .route(
            "/panics",
            get(|| async {
                if std::hint::black_box(true) {
                    panic!("no good")
                }
                Json(1)
            }),
        )
        .route(
            "/hangs",
            get(|| async { std::future::pending::<Json<i32>>().await }),
        )
        .route(
            "/trickles",
            get(|| async {
                let first = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from("[1"))]);
                Body::from_stream(futures::StreamExt::chain(first, futures::stream::pending()))
            }),
        )
}

/// Runs a case in process and over TCP.
async fn both<F, W>(responses: Responses, case: F)
where
    F: Fn(Client, Context) -> W,
    W: Future<Output = ()>,
{
    let telemetry = Telemetry::new(Env::system());
    let router = layer(routes(), "there", telemetry.clone(), Limits::default());
    both_ways(router, telemetry, responses, case).await;
}

async fn both_ways<F, W>(router: Router, telemetry: Telemetry, responses: Responses, case: F)
where
    F: Fn(Client, Context) -> W,
    W: Future<Output = ()>,
{
    let env = telemetry.env().clone();
    let context = Context::root(&env).with_user("u-1");

    let near = Network::new(telemetry.clone(), env.clone());
    near.mount("there", router.clone(), responses);
    case(
        Client::new(near.channel("here", "there"), context.clone()),
        context.clone(),
    )
    .await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let server =
        tokio::task::JoinSet::from_iter([serve(listener, router, stop.clone().cancelled_owned())]);
    let far = Network::new(telemetry, env);
    far.remote("there", &url, responses).unwrap();
    case(
        Client::new(far.channel("here", "there"), context.clone()),
        context,
    )
    .await;
    drop(far);
    stop.cancel();
    server.join_all().await;
}

#[tokio::test]
async fn answers_come_back_plain_or_wrapped() {
    both(Responses::Plain, |client, _| async move {
        let sent = json!({ "name": "tea", "price": 2.5 });
        let got: Value = client.post("/echo").json(&sent).send().await.unwrap();
        assert_eq!(got, sent);
    })
    .await;
    both(Responses::Data, |client, _| async move {
        let got: Vec<i32> = client.get("/wrapped").send().await.unwrap();
        assert_eq!(got, [1, 2]);
    })
    .await;
}

#[tokio::test]
async fn the_context_travels() {
    both(Responses::Plain, |client, context| async move {
        let got: Value = client.get("/context").send().await.unwrap();
        assert_eq!(got["correlation"], *context.correlation_id);
        assert_eq!(got["user"], "u-1");
        assert_eq!(got["trace"], format!("{:032x}", context.trace.trace_id));
        assert_eq!(got["has_deadline"], true);
    })
    .await;
}

#[tokio::test]
async fn a_problem_comes_back_as_the_error_it_was() {
    both(Responses::Plain, |client, _| async move {
        let error = client.get("/refuses").send::<Value>().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(error.code(), "order_closed");
        assert_eq!(error.message(), "the order is closed (order: 7)");
        assert_eq!(error.retry(), Retry::Permanent);
    })
    .await;
}

#[tokio::test]
async fn a_panic_is_an_internal_error_that_tells_nothing() {
    both(Responses::Plain, |client, _| async move {
        let error = client.get("/panics").send::<Value>().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(!error.to_string().contains("no good"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_deadline_ends_a_call_that_hangs_and_a_body_that_trickles() {
    both(Responses::Plain, |client, _| async move {
        for path in ["/hangs", "/trickles"] {
            let call = client.get(path).timeout(Duration::from_millis(60));
            let error = call.send::<Value>().await.unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::DeadlineExceeded,
                "{path}: {error:?}"
            );
            assert_eq!(error.retry(), Retry::Unknown);
        }
    })
    .await;
}

#[tokio::test]
async fn unknown_routes_wrong_methods_and_large_bodies_are_problems() {
    both(Responses::Plain, |client, _| async move {
        let error = client.get("/nowhere").send::<Value>().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::NotFound, "route_unknown")
        );
        let error = client.get("/echo").send::<Value>().await.unwrap_err();
        assert_eq!(error.code(), "method_not_allowed");
        let large = "x".repeat(1024 * 1024 + 1);
        let error = client
            .post("/size")
            .json(&large)
            .send::<Value>()
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::TooLarge, "body_too_large")
        );
    })
    .await;
}

#[tokio::test]
async fn a_target_that_is_not_there_is_unavailable_and_safe_to_retry() {
    let env = Env::system();
    let network = Network::new(Telemetry::new(env.clone()), env.clone());
    let client = Client::new(network.channel("here", "there"), Context::root(&env));
    let error = client
        .get("/")
        .no_retry()
        .send::<Value>()
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Unavailable, Retry::Transient)
    );
    // A port that was free a moment ago: nobody listens.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    network.remote("there", &url, Responses::Plain).unwrap();
    let error = client
        .get("/")
        .no_retry()
        .send::<Value>()
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Unavailable, Retry::Transient)
    );
    assert!(
        network
            .remote("there", "ftp://x", Responses::Plain)
            .is_err()
    );
}

#[tokio::test]
async fn client_and_server_spans_are_one_trace() {
    let ring = std::sync::Arc::new(Ring::new(64));
    let env = Env::system();
    let telemetry = Telemetry::new(env.clone()).with_sink(ring.clone());
    let network = Network::new(telemetry.clone(), env.clone());
    network.mount(
        "there",
        layer(routes(), "there", telemetry, Limits::default()),
        Responses::Plain,
    );
    let context = Context::root(&env);
    let client = Client::new(network.channel("here", "there"), context.clone());
    client.get("/wrapped").send::<Value>().await.unwrap();
    let spans = ring.spans(context.trace.trace_id);
    let client = spans
        .iter()
        .find(|span| span.kind == SpanKind::Client)
        .unwrap();
    let server = spans
        .iter()
        .find(|span| span.kind == SpanKind::Server)
        .unwrap();
    assert_eq!(
        client.parent.map(|parent| parent.span_id),
        Some(context.trace.span_id)
    );
    assert_eq!(
        server.parent.map(|parent| parent.span_id),
        Some(client.context.span_id)
    );
    assert_eq!(server.name, "GET /wrapped");
}

#[tokio::test]
async fn a_call_is_one_state_machine_that_is_small_enough_to_be_moved() {
    let env = Env::system();
    let network = Network::new(Telemetry::new(env.clone()), env);
    let channel = network.channel("here", "there");
    let call = channel.run(http::Request::new(Body::empty()));
    // It was 16 KiB, and moving it cost as much as the layers.
    assert!(std::mem::size_of_val(&call) <= 5 * 1024 + 512);
}
