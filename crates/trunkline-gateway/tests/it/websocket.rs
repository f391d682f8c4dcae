//! WebSocket: connections that go on in another protocol.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::any;
use http::{HeaderMap, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use trunkline_gateway::{Limits, Route};
use trunkline_testkit::eventually;

use crate::kit::{Kit, SOON, config, read_all, read_until, start, start_at, start_with, with_url};

pub(crate) const ASK: &str = "GET /chat/room?x=1 HTTP/1.1\r\nhost: shop\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

/// A service of this process that says back what it is told, after the headers that it got.
pub(crate) fn here() -> Router {
    async fn join(request: Request) -> Response<Body> {
        let told = tell(request.headers());
        let switched = hyper::upgrade::on(request);
        tokio::spawn(async move {
            let Ok(stream) = switched.await else { return };
            let mut stream = TokioIo::new(stream);
            if stream.write_all(told.as_bytes()).await.is_ok() {
                let (mut read, mut write) = tokio::io::split(stream);
                drop(tokio::io::copy(&mut read, &mut write).await);
                drop(write.shutdown().await);
            }
        });
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            .body(Body::empty())
            .unwrap()
    }
    Router::new().fallback(any(join))
}

fn tell(headers: &HeaderMap) -> String {
    let mut told: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
        .collect();
    told.sort();
    format!("[{}]", told.join("|"))
}

/// A service elsewhere: it tells each head that it gets, and answers with this and an echo.
struct There {
    address: SocketAddr,
    heads: mpsc::Receiver<String>,
    tasks: JoinSet<()>,
}

async fn there(answer: &'static str) -> There {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, heads) = mpsc::channel(64);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let tell = tell.clone();
            open.spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                drop(tell.send(String::from_utf8(head).unwrap()).await);
                if stream.write_all(answer.as_bytes()).await.is_ok() {
                    let (mut read, mut write) = stream.split();
                    drop(tokio::io::copy(&mut read, &mut write).await);
                }
            });
        }
    });
    There {
        address,
        heads,
        tasks,
    }
}

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello";

fn chat() -> trunkline_gateway::Config {
    config([Route::new("chat", "/chat").keep_path()])
}

/// The same for a service whose address the file has.
fn named(there: &There) -> trunkline_gateway::Config {
    with_url(chat(), &format!("http://{}", there.address))
}

async fn join(kit: &Kit, more: &str) -> (TcpStream, String) {
    let mut stream = kit.connect().await;
    let request = format!("{ASK}{more}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let said = read_until(&mut stream, "\r\n\r\n").await;
    (stream, said)
}

fn is_switched(said: &str) {
    let said = said.to_ascii_lowercase();
    assert!(said.starts_with("http/1.1 101 "), "{said}");
    for header in [
        "connection: upgrade\r\n",
        "upgrade: websocket\r\n",
        "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n",
        "x-request-id: ",
    ] {
        assert!(said.contains(header), "{header}: {said}");
    }
}

#[tokio::test]
async fn a_service_of_this_process_takes_the_connection() {
    let kit = start_with(chat(), here(), Limits::default()).await;
    // What is sent before the answer is not lost.
    let (mut stream, mut said) = join(&kit, "early").await;
    is_switched(&said);
    if !said.contains("early") {
        said = read_until(&mut stream, "early").await;
    }
    for wanted in [
        "connection=upgrade|",
        "upgrade=websocket|",
        "sec-websocket-key=dGhlIHNhbXBsZSBub25jZQ==|",
        "x-forwarded-host=shop|",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    stream.write_all(b"and late").await.unwrap();
    read_until(&mut stream, "and late").await;
    assert_eq!(kit.gateway.connections(), 1, "it is still open");
    stream.shutdown().await.unwrap();
    assert_eq!(read_all(&mut stream).await, "");
    eventually(SOON, async || kit.gateway.connections() == 0).await;
}

#[tokio::test]
async fn bytes_go_both_ways_to_a_service_elsewhere() {
    let at = there(SWITCHED).await;
    let kit = start_at(chat(), at.address, Limits::default()).await;
    carries(kit, at).await;
    let at = there(SWITCHED).await;
    let kit = start(named(&at)).await;
    carries(kit, at).await;
}

async fn carries(kit: Kit, mut there: There) {
    let (mut stream, mut said) = join(&kit, "early").await;
    is_switched(&said);
    if !said.contains("helloearly") {
        said.push_str(&read_until(&mut stream, "early").await);
    }
    assert!(said.ends_with("helloearly"), "{said}");
    let head = there.heads.recv().await.unwrap();
    assert!(
        head.starts_with("GET /chat/room?x=1 HTTP/1.1\r\n"),
        "{head}"
    );
    for wanted in [
        "connection: upgrade\r\n",
        "upgrade: websocket\r\n",
        "sec-websocket-version: 13\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
    ] {
        assert!(head.contains(wanted), "{wanted}: {head}");
    }
    let large = vec![b'x'; 1_000_000];
    let (mut read, mut write) = stream.split();
    let mut back = vec![0; large.len()];
    let (sent, got) = tokio::join!(write.write_all(&large), read.read_exact(&mut back));
    sent.unwrap();
    got.unwrap();
    assert!(back == large);
    // Closed by the client.
    stream.shutdown().await.unwrap();
    assert_eq!(read_all(&mut stream).await, "");
    eventually(SOON, async || kit.gateway.connections() == 0).await;
}

#[tokio::test]
async fn a_service_that_dies_takes_its_tunnels_along_and_nothing_else() {
    let mut there = there(SWITCHED).await;
    let kit = start_at(chat(), there.address, Limits::default()).await;
    let (mut stream, said) = join(&kit, "").await;
    if !said.contains("hello") {
        read_until(&mut stream, "hello").await;
    }
    there.tasks.shutdown().await;
    drop(there.heads.recv().await);
    assert_eq!(read_all(&mut stream).await, "");
    drop(stream);
    eventually(SOON, async || kit.gateway.connections() == 0).await;
    kit.get("/chat")
        .await
        .is_problem(503, "service_unreachable");
}

#[tokio::test]
async fn a_silent_tunnel_ends() {
    let mut limits = Limits::default();
    limits.tunnel_idle_max = Duration::from_millis(100);
    let there = there(SWITCHED).await;
    for kit in [
        start_with(chat(), here(), limits).await,
        start_at(chat(), there.address, limits).await,
        start_with(named(&there), here(), limits).await,
    ] {
        let (mut stream, said) = join(&kit, "").await;
        is_switched(&said);
        read_all(&mut stream).await;
        eventually(SOON, async || kit.gateway.connections() == 0).await;
    }
}

#[tokio::test]
async fn a_stop_ends_tunnels_after_the_drain() {
    let mut limits = Limits::default();
    limits.linger = Duration::from_millis(50);
    limits.drain_within = Duration::from_millis(100);
    let there = there(SWITCHED).await;
    for mut kit in [
        start_with(chat(), here(), limits).await,
        start_at(chat(), there.address, limits).await,
        start_with(named(&there), here(), limits).await,
    ] {
        let (mut stream, said) = join(&kit, "").await;
        is_switched(&said);
        kit.begin_stop();
        stream.write_all(b"still there").await.unwrap();
        read_until(&mut stream, "still there").await;
        read_all(&mut stream).await;
        kit.stopped().await;
        assert_eq!(kit.gateway.connections(), 0);
    }
}

#[tokio::test]
async fn plugins_run_before_and_refusals_are_plain_answers() {
    let guarded = Route::new("chat", "/chat").plugin("jwt", json!({}));
    let kit = start_with(config([guarded]), here(), Limits::default()).await;
    let mut stream = kit.connect().await;
    // The connection goes on after it.
    for _ in 0..2 {
        stream.write_all(ASK.as_bytes()).await.unwrap();
        let said = read_until(&mut stream, "}").await;
        assert!(said.starts_with("HTTP/1.1 401 "), "{said}");
    }
    let ask = ASK.replace("\r\n\r\n", &format!("\r\n{}\r\n", kit.bearer("ann")));
    stream.write_all(ask.as_bytes()).await.unwrap();
    is_switched(&read_until(&mut stream, "\r\n\r\n").await);

    let refuses = "HTTP/1.1 426 Upgrade Required\r\nconnection: close\r\nsec-websocket-version: 13\r\ncontent-length: 5\r\n\r\nnever";
    let there = there(refuses).await;
    let kit = start_at(chat(), there.address, Limits::default()).await;
    let (mut stream, mut said) = join(&kit, "").await;
    if !said.contains("never") {
        said.push_str(&read_until(&mut stream, "never").await);
    }
    assert!(said.starts_with("HTTP/1.1 426 "), "{said}");
    assert!(said.contains("sec-websocket-version: 13\r\n"), "{said}");
    stream.write_all(ASK.as_bytes()).await.unwrap();
    read_until(&mut stream, "never").await;
}

#[tokio::test]
async fn what_is_no_websocket_goes_on_as_a_request() {
    let kit = start(chat()).await;
    for (from, to) in [
        ("upgrade: WebSocket", "upgrade: h2c"),
        ("connection: keep-alive, Upgrade\r\n", ""),
        ("GET ", "POST "),
        ("\r\n\r\n", "\r\ncontent-length: 2\r\n\r\nhi"),
    ] {
        let mut stream = kit.connect().await;
        let ask = ASK.replace(from, to);
        stream.write_all(ask.as_bytes()).await.unwrap();
        let said = read_until(&mut stream, "\"uri\":\"/chat/room?x=1\"").await;
        assert!(said.starts_with("HTTP/1.1 200 "), "{ask}: {said}");
        assert!(!said.contains("\"upgrade\""), "{ask}: {said}");
    }
}

#[tokio::test]
async fn a_service_that_goes_on_unasked_is_refused() {
    let there = there(SWITCHED).await;
    for kit in [
        start_with(chat(), here(), Limits::default()).await,
        start_at(chat(), there.address, Limits::default()).await,
        start(named(&there)).await,
    ] {
        let refused = kit.get("/chat").await;
        refused.is_problem(503, "upgrade_unasked");
    }
}
