//! HTTP/2, with prior knowledge, beside HTTP/1.1 on one address.

mod connection;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use trunkline_gateway::{Limits, Route};
use trunkline_testkit::eventually;

use crate::kit::{SOON, config, echo, gated, read_all, start, start_with};

/// A client of HTTP/2 on a connection, and what drives it.
pub(crate) async fn client<S>(stream: S) -> (SendRequest<Body>, JoinSet<()>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let begun = Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream));
    let (sender, connection) = begun.await.unwrap();
    let mut drives = JoinSet::new();
    drives.spawn(async { drop(connection.await) });
    (sender, drives)
}

pub(crate) async fn read(response: Response<Incoming>) -> (StatusCode, HeaderMap, String) {
    let (head, body) = response.into_parts();
    let body = tokio::time::timeout(SOON, body.collect()).await.unwrap();
    let bytes = body.unwrap().to_bytes();
    (
        head.status,
        head.headers,
        String::from_utf8(bytes.to_vec()).unwrap(),
    )
}

async fn ask(
    sender: &mut SendRequest<Body>,
    request: http::request::Builder,
) -> (StatusCode, HeaderMap, String) {
    let request = request.body(Body::empty()).unwrap();
    let response = tokio::time::timeout(SOON, sender.send_request(request)).await;
    read(response.unwrap().unwrap()).await
}

/// What the service got under this header.
fn got(body: &str, name: &str) -> Vec<String> {
    let told: Value = serde_json::from_str(body).unwrap();
    let headers = told["headers"].as_array().unwrap();
    let values = headers.iter().filter(|pair| pair[0] == name);
    values
        .map(|pair| pair[1].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn both_versions_are_served_on_one_address() {
    let kit = start(config([Route::new("api", "/api")])).await;
    let (mut sender, _drives) = client(kit.connect().await).await;
    let request = Request::get("http://shop/api/x")
        .header("cookie", "a=1")
        .header("cookie", "b=2");
    let (status, headers, body) = ask(&mut sender, request).await;
    assert_eq!(status, 200, "{body}");
    assert!(headers.contains_key("x-request-id"));
    assert_eq!(got(&body, "x-forwarded-host"), ["shop"]);
    assert_eq!(got(&body, "x-forwarded-proto"), ["http"]);
    assert_eq!(
        got(&body, "x-forwarded-port"),
        [kit.address.port().to_string()]
    );
    assert_eq!(got(&body, "cookie"), ["a=1; b=2"]);
    assert_eq!(kit.get("/api").await.status, 200);
}

#[tokio::test]
async fn a_host_that_is_missing_or_contradicts_is_refused() {
    let kit = start(config([Route::new("api", "/api")])).await;
    let (mut sender, _drives) = client(kit.connect().await).await;
    let same = Request::get("http://shop/api").header("host", "SHOP");
    assert_eq!(ask(&mut sender, same).await.0, 200);
    let other = Request::get("http://shop/api").header("host", "other");
    let two = Request::get("http://shop/api")
        .header("host", "shop")
        .header("host", "shop");
    let user = Request::get("http://ann@shop/api");
    for request in [other, two, user] {
        let (status, headers, body) = ask(&mut sender, request).await;
        assert_eq!(status, 400, "{body}");
        assert!(body.contains("request_malformed"), "{body}");
        assert!(!headers.contains_key("connection"));
    }
    // Without an authority at all: GET, http, /api.
    let mut stream = kit.connect().await;
    let block = [&[0x82, 0x86, 0x04, 4][..], b"/api"].concat();
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block));
    // GOAWAY, so that the answer is the end.
    bytes.extend(frame(7, 0, 0, &[0; 8]));
    stream.write_all(&bytes).await.unwrap();
    let said = read_all(&mut stream).await;
    assert!(
        said.contains("request_malformed") || said.is_empty(),
        "{said:?}"
    );
    assert_eq!(kit.get("/api").await.status, 200);
}

#[tokio::test]
async fn a_head_beyond_its_bounds_is_refused() {
    let kit = start(config([Route::new("api", "/api")])).await;
    let (mut sender, _drives) = client(kit.connect().await).await;
    let many = (0..101).fold(Request::get("http://shop/api"), |request, at| {
        request.header(format!("x-{at}"), "1")
    });
    let (status, _, body) = ask(&mut sender, many).await;
    assert_eq!(status, 431, "{body}");
    let large = Request::get("http://shop/api").header("x-a", "a".repeat(70_000));
    let request = large.body(Body::empty()).unwrap();
    match sender.send_request(request).await {
        Ok(response) => assert_eq!(response.status(), 431),
        Err(error) => assert!(!error.is_timeout(), "{error}"),
    }
    let (mut sender, _drives) = client(kit.connect().await).await;
    let fits = Request::get("http://shop/api");
    assert_eq!(ask(&mut sender, fits).await.0, 200);
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// GET, http, `/`, for the host `h`.
const BLOCK: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'h'];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

async fn begin(kit: &crate::kit::Kit) -> TcpStream {
    let mut stream = kit.connect().await;
    let settings = frame(SETTINGS, 0, 0, &[]);
    stream
        .write_all(&[PREFACE, &settings].concat())
        .await
        .unwrap();
    stream
}

/// Writes this again and again, and reads whatever comes, until the other end has had enough.
async fn flood(stream: TcpStream, mut next: impl FnMut(u32) -> Vec<u8> + Send + 'static) {
    let (mut read, mut write) = stream.into_split();
    let mut writes = JoinSet::new();
    writes.spawn(async move {
        for round in 0.. {
            if write.write_all(&next(round)).await.is_err() {
                break;
            }
        }
    });
    read_all(&mut read).await;
    let ended = tokio::time::timeout(SOON, writes.join_next()).await;
    ended.expect("the gateway closes the connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_end_their_connection_and_no_other() {
    let kit = start(config([Route::new("api", "/")])).await;
    let (mut other, _drives) = client(kit.connect().await).await;
    let many = |one: Vec<u8>| move |_| one.repeat(64);
    flood(begin(&kit).await, many(frame(SETTINGS, 0, 0, &[]))).await;
    flood(begin(&kit).await, many(frame(PING, 0, 0, &[7; 8]))).await;
    // Heads without an end.
    let mut stream = begin(&kit).await;
    stream
        .write_all(&frame(HEADERS, END_STREAM, 1, BLOCK))
        .await
        .unwrap();
    let more = [&[0x00, 1, b'a', 0x7f, 0x81, 0x7f][..], &[b'v'; 256]].concat();
    flood(stream, many(frame(CONTINUATION, 0, 1, &more))).await;
    let rapid = |round: u32| {
        let stream = round * 2 + 1;
        let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, BLOCK);
        [request, frame(RESET, 0, stream, &[0, 0, 0, 8])].concat()
    };
    flood(begin(&kit).await, rapid).await;
    assert_eq!(ask(&mut other, Request::get("http://shop/x")).await.0, 200);
    assert_eq!(kit.get("/x").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_taken_back_when_they_have_begun_end_the_connection() {
    let (began, ended) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    struct Ended(Arc<AtomicUsize>);
    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (tells, counts) = (began.clone(), ended.clone());
    let hangs = move || {
        let (tells, ended) = (tells.clone(), Ended(counts.clone()));
        async move {
            tells.add_permits(1);
            std::future::pending::<()>().await;
            drop(ended);
        }
    };
    let router = Router::new().fallback(any(hangs));
    let kit = start_with(config([Route::new("api", "/")]), router, Limits::default()).await;
    let mut stream = begin(&kit).await;
    let mut taken = 0;
    // More than any honest client takes back, and each of them had begun.
    for round in 0..1_100 {
        let id = round * 2 + 1;
        let request = frame(HEADERS, END_HEADERS | END_STREAM, id, BLOCK);
        if stream.write_all(&request).await.is_err() {
            break;
        }
        tokio::select! {
            permit = began.acquire() => permit.unwrap().forget(),
            () = tokio::time::sleep(Duration::from_secs(2)) => break,
        }
        let reset = frame(RESET, 0, id, &[0, 0, 0, 8]);
        if stream.write_all(&reset).await.is_err() {
            break;
        }
        taken += 1;
    }
    assert!((1_000..=1_001).contains(&taken), "{taken}");
    // What was begun is let go.
    eventually(SOON, async || ended.load(Ordering::SeqCst) >= taken).await;
    read_all(&mut stream).await;
}

#[tokio::test]
async fn who_sends_nothing_or_half_a_head_is_let_go() {
    let mut limits = Limits::default();
    limits.head_within = Duration::from_millis(100);
    let kit = start_with(config([Route::new("api", "/")]), echo(), limits).await;
    // Half a preface.
    let mut stream = kit.connect().await;
    stream.write_all(&PREFACE[..10]).await.unwrap();
    read_all(&mut stream).await;
    // Nothing after it, a head that is not ended, and one that was answered.
    let half = frame(HEADERS, END_STREAM, 1, BLOCK);
    let whole = frame(HEADERS, END_STREAM | END_HEADERS, 1, BLOCK);
    for bytes in [vec![], half, whole] {
        let mut stream = begin(&kit).await;
        stream.write_all(&bytes).await.unwrap();
        read_all(&mut stream).await;
    }
    eventually(SOON, async || kit.gateway.connections() == 0).await;
}

#[tokio::test]
async fn a_body_that_pauses_is_a_timeout_of_the_client() {
    let mut limits = Limits::default();
    limits.body_idle_max = Duration::from_millis(100);
    let kit = start_with(config([Route::new("api", "/api")]), echo(), limits).await;
    let (mut sender, _drives) = client(kit.connect().await).await;
    let first = futures::stream::iter([Ok::<_, std::io::Error>("01234")]);
    let body = Body::from_stream(futures::StreamExt::chain(first, futures::stream::pending()));
    let request = Request::post("http://shop/api").body(body).unwrap();
    let (status, _, body) = read(sender.send_request(request).await.unwrap()).await;
    assert_eq!(status, 408, "{body}");
    // Others on the connection go on.
    assert_eq!(
        ask(&mut sender, Request::get("http://shop/api")).await.0,
        200
    );
}

#[tokio::test]
async fn more_requests_at_once_than_there_may_be_wait() {
    let (router, began, go_on) = gated();
    let mut limits = Limits::default();
    limits.streams_max = 2;
    let kit = start_with(config([Route::new("api", "/")]), router, limits).await;
    let (mut sender, _drives) = client(kit.connect().await).await;
    // From the first answer on it knows the bound.
    go_on.add_permits(1);
    assert_eq!(ask(&mut sender, Request::get("http://shop/")).await.0, 200);
    began.acquire().await.unwrap().forget();
    let mut asks = JoinSet::new();
    for _ in 0..3 {
        let mut sender = sender.clone();
        asks.spawn(async move { ask(&mut sender, Request::get("http://shop/")).await.0 });
    }
    let steps = async {
        began.acquire_many(2).await.unwrap().forget();
        assert_eq!(began.available_permits(), 0);
        go_on.add_permits(1);
        began.acquire().await.unwrap().forget();
        go_on.add_permits(2);
        assert_eq!(asks.join_all().await, [200, 200, 200]);
    };
    tokio::time::timeout(SOON, steps).await.unwrap();
}

/// Whether the other end took its leave before it began with a request.
fn is_leave(error: &hyper::Error) -> bool {
    let text = format!("{error:?}");
    text.contains("GoAway") && text.contains("NO_ERROR")
}

/// Asks on one connection after the other; returns what went wrong.
async fn load(
    kit_address: std::net::SocketAddr,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
) -> Result<(), String> {
    while !stop.load(Ordering::Relaxed) {
        // Not being let in any more is no loss: nothing was asked.
        let Ok(stream) = TcpStream::connect(kit_address).await else {
            return Ok(());
        };
        let begun = Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream));
        let Ok((mut sender, connection)) = begun.await else {
            return Ok(());
        };
        let mut drives = JoinSet::new();
        drives.spawn(async { drop(connection.await) });
        while !stop.load(Ordering::Relaxed) && sender.ready().await.is_ok() {
            let request = Request::get("http://shop/api").body(Body::empty()).unwrap();
            let response = match sender.try_send_request(request).await {
                Ok(response) => response,
                Err(mut error) => match error.take_message() {
                    // It never left.
                    Some(_) => break,
                    // Nor did this: the client had been told to begin no more.
                    None if is_leave(error.error()) => break,
                    None => return Err(format!("{:?}", error.into_error())),
                },
            };
            if response.status() != 200 {
                return Err(response.status().to_string());
            }
            let body = response.into_body().collect().await;
            body.map_err(|error| format!("body: {error:?}"))?;
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_loses_no_request() {
    for _ in 0..3 {
        let seen = Arc::new(AtomicUsize::new(0));
        let counts = seen.clone();
        let count = move || {
            counts.fetch_add(1, Ordering::Relaxed);
            std::future::ready("counted")
        };
        let router = Router::new().fallback(any(count));
        let routes = config([Route::new("api", "/api")]);
        let mut kit = start_with(routes, router, Limits::default()).await;
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let mut clients = JoinSet::new();
        for _ in 0..16 {
            clients.spawn(load(kit.address, stop.clone(), Arc::clone(&answered)));
        }
        eventually(SOON, async || answered.load(Ordering::Relaxed) >= 300).await;
        kit.begin_stop();
        kit.stopped().await;
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = clients.join_next().await {
            assert_eq!(ended.unwrap(), Ok(()));
        }
        assert_eq!(kit.gateway.connections(), 0);
        // What the service got, it answered, and no client missed it.
        let (seen, answered) = (
            seen.load(Ordering::Relaxed),
            answered.load(Ordering::Relaxed),
        );
        assert_eq!(seen, answered);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_under_load_fail_no_request() {
    let kit = start(config([Route::new("r", "/api")])).await;
    let (stop, answered) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        clients.spawn(load(kit.address, stop.clone(), answered.clone()));
    }
    for round in 0..100_usize {
        eventually(SOON, async || answered.load(Ordering::Relaxed) >= round).await;
        let others = (0..round % 7).map(|at| Route::new(format!("o-{at}"), format!("/o-{at}")));
        let routes = others.chain([Route::new("r", "/api")]);
        kit.gateway.reload(&config(routes)).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        assert_eq!(ended.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn a_request_that_has_begun_when_the_stop_begins_is_answered() {
    let (router, began, go_on) = gated();
    let mut kit = start_with(config([Route::new("api", "/")]), router, Limits::default()).await;
    let (mut sender, _drives) = client(kit.connect().await).await;
    let (_, idle_drives) = client(kit.connect().await).await;
    let asks = async {
        let (status, _, body) = ask(&mut sender, Request::get("http://shop/")).await;
        assert_eq!((status.as_u16(), &*body), (200, "done"));
    };
    let stops = async {
        began.acquire().await.unwrap().forget();
        kit.begin_stop();
        // The one that has nothing to do is gone first.
        idle_drives.join_all().await;
        go_on.add_permits(1);
    };
    tokio::join!(asks, stops);
    kit.stopped().await;
}
