//! What answers say beyond their bodies, and what becomes of those that go wrong.

use std::sync::Arc;

use axum::response::Response;
use futures::StreamExt;
use http::HeaderMap;
use http_body_util::BodyExt;
use trunkline_telemetry::Scope;

use super::*;
use crate::headers::REQUEST_ID;

fn odd_routes() -> Router {
    Router::new()
        .route(
            "/ids",
            get(|Extension(context): Extension<Context>| async move {
                let scope = Scope::current().expect("a handler works in a scope");
                Json(json!({
                    "request": context.request_id.as_deref(),
                    "scope": [&*scope.service, &*scope.correlation_id, &format!("{:032x}", scope.trace_id)],
                }))
            }),
        )
        .route(
            "/busy",
            get(|| async {
                let pause = Duration::from_millis(1_500);
                Problem(Error::unavailable("busy", "not now").with_retry_after(pause))
            }),
        )
        .route(
            "/corrupt",
            get(|| async { Problem(Error::new(ErrorKind::Corrupt, "page_torn", "half a page")) }),
        )
        .route(
            "/fails",
            get(|| async { Problem(Error::internal("the disk is gone")) }),
        )
        .route("/bursts", get(|| async { Body::from_stream(bursts()) }))
        .route("/pauses", get(|| async { Body::from_stream(pauses()) }))
}

type Piece = Result<Bytes, std::io::Error>;

fn bursts() -> impl futures::Stream<Item = Piece> + Send {
    futures::stream::iter(0..2).map(|piece| {
        assert!(std::hint::black_box(piece) < 1, "the secret of the body");
        Ok(Bytes::from_static(b"[1"))
    })
}

fn pauses() -> impl futures::Stream<Item = Piece> + Send {
    let first = futures::stream::iter([Ok(Bytes::from_static(b"[1"))]);
    first.chain(futures::stream::pending())
}

async fn case<F, W>(case: F)
where
    F: Fn(Client, Context) -> W,
    W: Future<Output = ()>,
{
    let telemetry = Telemetry::new(Env::system());
    let limits = Limits {
        body_pause_max: Duration::from_millis(20),
        ..Limits::default()
    };
    let router = layer(odd_routes(), "there", telemetry.clone(), limits);
    both_ways(router, telemetry, Responses::Plain, case).await;
}

async fn raw(client: &Client, path: &str) -> (HeaderMap, Value) {
    let response: Response = client.get(path).send_raw().await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts.headers, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn a_request_keeps_its_id_and_one_without_gets_one() {
    case(|client, mut context| async move {
        context.request_id = Some("r-1".into());
        let asked = Client {
            context,
            ..client.clone()
        };
        let (headers, body) = raw(&asked, "/ids").await;
        assert_eq!(headers[REQUEST_ID], "r-1");
        assert_eq!(body["request"], "r-1");
        let (headers, body) = raw(&client, "/ids").await;
        let made = headers[REQUEST_ID].to_str().unwrap();
        assert_eq!(body["request"], made);
        assert_eq!(made.len(), 36, "a UUID: {made}");
    })
    .await;
}

#[tokio::test]
async fn what_a_handler_logs_says_where_it_belongs() {
    case(|client, context| async move {
        let (_, body) = raw(&client, "/ids").await;
        let trace = format!("{:032x}", context.trace.trace_id);
        let expected = json!(["there", &*context.correlation_id, trace]);
        assert_eq!(body["scope"], expected);
    })
    .await;
    assert_eq!(Scope::current(), None);
}

#[tokio::test]
async fn a_problem_names_its_flow_and_request_whoever_made_it() {
    case(|client, context| async move {
        for path in ["/fails", "/nowhere"] {
            let (headers, body) = raw(&client, path).await;
            assert_eq!(body["correlation_id"], *context.correlation_id, "{path}");
            assert_eq!(body["request_id"], headers[REQUEST_ID].to_str().unwrap());
        }
    })
    .await;
}

#[tokio::test]
async fn when_to_try_again_and_what_was_torn_come_back_as_they_were() {
    case(|client, _| async move {
        let error = client
            .get("/busy")
            .no_retry()
            .send::<Value>()
            .await
            .unwrap_err();
        // Whole seconds on the wire, and no fewer than were asked for.
        assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
        let again = crate::problem::response(&error, None);
        assert_eq!(again.headers()["retry-after"], "2");
        let error = client.get("/corrupt").send::<Value>().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code(), error.retry()),
            (ErrorKind::Corrupt, "page_torn", Retry::Permanent)
        );
        let error = client.get("/fails").send::<Value>().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(error.retry_after(), None);
    })
    .await;
}

#[tokio::test]
async fn a_body_that_panics_or_stalls_breaks_off_and_the_server_goes_on() {
    case(|client, _| async move {
        for path in ["/bursts", "/pauses"] {
            let error = client.get(path).send::<Value>().await.unwrap_err();
            let found = (error.kind(), error.retry());
            assert_eq!(found, (ErrorKind::Unavailable, Retry::Unknown), "{path}");
            let told = trunkline_core::report(&error).to_string();
            assert!(!told.contains("secret"), "{told}");
            client.get("/ids").send::<Value>().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_panic_in_a_router_without_a_layer_is_a_problem_too() {
    let bare = Router::new().route(
        "/panics",
        get(|| async {
            assert!(!std::hint::black_box(true), "the secret of the handler");
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let mut server = tokio::task::JoinSet::new();
    server.spawn(serve(listener, bare, stop.clone().cancelled_owned()));
    let env = Env::system();
    let network = Network::new(Telemetry::new(env.clone()), env.clone());
    network.remote("there", &url, Responses::Plain).unwrap();
    let client = Client::new(network.channel("here", "there"), Context::root(&env));
    for _ in 0..2 {
        let error = client.get("/panics").send_empty().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::Internal, "internal")
        );
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    drop(network);
    stop.cancel();
    server.join_all().await;
}

#[tokio::test]
async fn who_is_outside_is_not_told_who_the_user_is() {
    let told = |request: http::Request<Body>| async move {
        let names = request.headers().keys().map(ToString::to_string);
        axum::Json(names.collect::<Vec<_>>())
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let mut server = tokio::task::JoinSet::new();
    let router = Router::new().fallback(told);
    server.spawn(serve(listener, router, stop.clone().cancelled_owned()));
    let env = Env::system();
    let network = Network::new(Telemetry::new(env.clone()), env.clone());
    network.remote("ours", &url, Responses::Plain).unwrap();
    network.outside("theirs", &url).unwrap();
    let mut context = Context::root(&env).with_user("ann");
    context.user_roles = vec!["admin".into()];
    let heard = async |target: &'static str| {
        let client = Client::new(network.channel("here", target), context.clone());
        let names: Vec<String> = client.post("/").send().await.unwrap();
        let inner = |name: &&String| name.starts_with("x-user-") || name.starts_with("x-trunkline");
        assert!(names.contains(&"traceparent".to_owned()), "{names:?}");
        names.iter().filter(inner).count()
    };
    assert!(
        heard("ours").await >= 4,
        "the user, its roles, the caller, the deadline"
    );
    assert_eq!(heard("theirs").await, 0);
    drop(network);
    stop.cancel();
    server.join_all().await;
}

#[tokio::test]
async fn a_span_names_the_method_that_was_asked_and_why_it_failed() {
    let ring = Arc::new(Ring::new(64));
    let telemetry = Telemetry::new(Env::system()).with_sink(ring.clone());
    let router = layer(odd_routes(), "there", telemetry.clone(), Limits::default());
    both_ways(
        router,
        telemetry,
        Responses::Plain,
        |client, _| async move {
            // axum answers HEAD by the route of GET; whoever is first must not name the other.
            for method in ["HEAD", "GET", "BREW"] {
                let asked = client.request(method.parse().unwrap(), "/ids");
                drop(asked.send_raw().await.unwrap());
            }
            client.get("/fails").send_empty().await.unwrap_err();
        },
    )
    .await;
    let spans = ring.all();
    let servers: Vec<_> = spans
        .iter()
        .filter(|span| span.kind == SpanKind::Server)
        .collect();
    let names: Vec<_> = servers.iter().map(|span| &*span.name).collect();
    let once = ["HEAD /ids", "GET /ids", "OTHER /ids", "GET /fails"];
    assert_eq!(names, [once, once].concat());
    for span in servers.iter().filter(|span| span.name == "GET /fails") {
        assert_eq!(span.error.as_deref(), Some("the disk is gone"));
    }
}
