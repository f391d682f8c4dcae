//! Connections that say nothing have no task, and nobody notices.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use trunkline_gateway::{Limits, Route};
use trunkline_testkit::eventually;

use crate::h2::{client, read};
use crate::kit::{Kit, SOON, config, echo, read_all, read_until, start_with};

const REQUEST: &[u8] = b"GET /api HTTP/1.1\r\nhost: h\r\n\r\n";
const POST: &[u8] = b"POST /api HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nhi";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

async fn gateway(change: impl FnOnce(&mut Limits)) -> Kit {
    let mut limits = Limits::default();
    change(&mut limits);
    start_with(config([Route::new("api", "/api")]), echo(), limits).await
}

/// Waits until so many connections are parked.
async fn parked(kit: &Kit, count: usize) {
    eventually(SOON, async || kit.gateway.connections_parked() == count).await;
}

/// Waits until so many connections are open.
async fn open(kit: &Kit, count: usize) {
    eventually(SOON, async || kit.gateway.connections() == count).await;
}

async fn ask(stream: &mut TcpStream) {
    stream.write_all(REQUEST).await.unwrap();
    answered(stream).await;
}

async fn answered(stream: &mut TcpStream) {
    let said = read_until(stream, "\"uri\"").await;
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
}

#[tokio::test]
async fn a_parked_connection_is_answered_however_its_next_request_comes() {
    let kit = gateway(|_| {}).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = kit.connect().await;
        ask(&mut stream).await;
        streams.push(stream);
    }
    parked(&kit, 4).await;
    assert_eq!(kit.gateway.connections(), 4);

    ask(&mut streams[0]).await;
    parked(&kit, 4).await;
    ask(&mut streams[0]).await;
    parked(&kit, 4).await;

    streams[1].write_all(&REQUEST[..9]).await.unwrap();
    parked(&kit, 3).await;
    streams[1].write_all(&REQUEST[9..]).await.unwrap();
    answered(&mut streams[1]).await;

    let three = [REQUEST, REQUEST, &REQUEST[..9]].concat();
    streams[2].write_all(&three).await.unwrap();
    let mut said = String::new();
    while said.matches("HTTP/1.1 200").count() < 2 {
        said += &read_until(&mut streams[2], "\"uri\"").await;
    }
    // Who has begun to ask is not parked.
    parked(&kit, 3).await;
    streams[2].write_all(&REQUEST[9..]).await.unwrap();
    answered(&mut streams[2]).await;

    // What it asks here is for hyper, whose it is from then on.
    streams[3].write_all(POST).await.unwrap();
    answered(&mut streams[3]).await;
    streams[3].write_all(REQUEST).await.unwrap();
    answered(&mut streams[3]).await;
    parked(&kit, 3).await;
    drop(streams);
    open(&kit, 0).await;
    assert_eq!(kit.gateway.connections_parked(), 0);
}

#[tokio::test]
async fn who_is_parked_before_it_said_anything_may_speak_any_protocol() {
    let kit = gateway(|_| {}).await;
    let mut plain = kit.connect().await;
    let mut other = kit.connect().await;
    let mut pieces = kit.connect().await;
    let whole = kit.connect().await;
    parked(&kit, 4).await;

    // The last piece is one that a reader of HTTP/1.1 would refuse.
    pieces.write_all(&PREFACE[..3]).await.unwrap();
    parked(&kit, 3).await;
    for piece in [&PREFACE[3..15], &PREFACE[15..]] {
        pieces.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    // An empty frame of settings, which an empty one of the server follows.
    pieces
        .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    read_until(&mut pieces, "\u{4}").await;

    ask(&mut plain).await;
    other.write_all(POST).await.unwrap();
    answered(&mut other).await;

    let (mut sender, _drives) = client(whole).await;
    let request = Request::get("http://h/api").body(Body::empty()).unwrap();
    let answer = read(sender.send_request(request).await.unwrap()).await;
    assert_eq!(answer.0, 200);

    // It is too late for another protocol after a request.
    parked(&kit, 1).await;
    plain.write_all(PREFACE).await.unwrap();
    let said = read_all(&mut plain).await;
    assert_eq!(said, "");
}

#[tokio::test]
async fn who_is_parked_has_no_more_time_than_others() {
    let kit = gateway(|limits| limits.head_within = Duration::from_secs(4)).await;
    let mut asks = kit.connect().await;
    let mut silent = kit.connect().await;
    ask(&mut asks).await;
    parked(&kit, 2).await;
    for stream in [&mut asks, &mut silent] {
        assert_eq!(read_all(stream).await, "");
    }
    open(&kit, 0).await;
    assert_eq!(kit.gateway.connections_parked(), 0);
}

#[tokio::test]
async fn who_goes_away_while_parked_leaves_its_place() {
    let kit = gateway(|limits| limits.connections_max = 3).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = kit.connect().await;
        ask(&mut stream).await;
        streams.push(stream);
    }
    parked(&kit, 3).await;
    let mut waits = kit.connect().await;
    waits.write_all(REQUEST).await.unwrap();

    // By an end, and the one that waited has its place.
    assert_eq!(kit.gateway.connections(), 3);
    drop(streams.pop());
    answered(&mut waits).await;
    assert_eq!(kit.gateway.connections(), 3);

    // By a reset, and by an end of one direction.
    drop(waits);
    let reset = streams.pop().unwrap();
    reset.set_zero_linger().unwrap();
    drop(reset);
    let half = &mut streams[0];
    half.shutdown().await.unwrap();
    assert_eq!(read_all(half).await, "");
    open(&kit, 0).await;
    assert_eq!(kit.gateway.connections_parked(), 0);
}

/// Asks on all at once.
async fn ask_all(streams: &mut [TcpStream]) {
    for stream in streams.iter_mut() {
        stream.write_all(REQUEST).await.unwrap();
    }
    for stream in streams {
        answered(stream).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_wakes_all_who_are_parked_and_loses_no_request() {
    const COUNT: usize = 1000;
    // Files of both ends are more than many systems give to a process at first.
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
    let mut kit = gateway(|limits| limits.linger = SOON).await;
    let mut streams = Vec::new();
    for _ in 0..COUNT {
        streams.push(kit.connect().await);
    }
    ask_all(&mut streams).await;
    parked(&kit, COUNT).await;
    ask_all(&mut streams).await;
    parked(&kit, COUNT).await;

    kit.begin_stop();
    for stream in &mut streams {
        stream.write_all(REQUEST).await.unwrap();
    }
    for mut stream in streams {
        let said = read_all(&mut stream).await;
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        assert!(said.contains("connection: close"), "{said}");
    }
    kit.stopped().await;
    assert_eq!(kit.gateway.connections(), 0);
}

#[tokio::test]
async fn who_is_parked_and_stays_silent_ends_with_the_gateway() {
    let mut kit = gateway(|_| {}).await;
    let mut silent = kit.connect().await;
    let mut never = kit.connect().await;
    ask(&mut silent).await;
    parked(&kit, 2).await;
    kit.begin_stop();
    parked(&kit, 0).await;
    assert_eq!(read_all(&mut silent).await, "");
    assert_eq!(read_all(&mut never).await, "");
    kit.stopped().await;
    assert_eq!(kit.gateway.connections(), 0);
}
