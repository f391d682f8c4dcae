//! What a connection of HTTP/2 keeps to itself: pings, contradictions, and what one request does to others.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tokio::io::AsyncReadExt;
use trunkline_gateway::Schemes;

use super::*;

/// Longer than a client may be silent and take to say that it is there, and shorter than one without requests is kept.
const SILENCE: Duration = Duration::from_secs(45);

#[tokio::test]
async fn a_client_that_does_not_say_that_it_is_there_is_let_go() {
    let kit = start(config([Route::new("api", "/")])).await;
    let mut silent = begin(&kit).await;
    let (mut sender, _drives) = client(kit.connect().await).await;
    assert_eq!(ask(&mut sender, Request::get("http://shop/")).await.0, 200);
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let mut said = Vec::new();
    silent.read_to_end(&mut said).await.unwrap();
    assert!(began.elapsed() < SILENCE, "{:?}", began.elapsed());
    tokio::time::resume();
    assert!(frames(&said).any(|frame| frame == (PING, 0)));
    // Who answers pings stays.
    assert_eq!(ask(&mut sender, Request::get("http://shop/")).await.0, 200);
}

/// Kinds and flags of what was said.
fn frames(mut said: &[u8]) -> impl Iterator<Item = (u8, u8)> {
    std::iter::from_fn(move || {
        let (head, rest) = said.split_at_checked(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        said = rest.get(length as usize..)?;
        Some((head[3], head[4]))
    })
}

#[tokio::test]
async fn a_request_that_says_two_lengths_is_taken_back() {
    let kit = start(config([Route::new("api", "/api")])).await;
    let (mut sender, _drives) = client(kit.connect().await).await;
    let two = Request::post("http://shop/api")
        .header("content-length", "1")
        .header("content-length", "2")
        .body(Body::from("1"))
        .unwrap();
    let error = sender.send_request(two).await.unwrap_err();
    assert!(format!("{error:?}").contains("PROTOCOL_ERROR"), "{error:?}");
    let (status, headers, _) = ask(&mut sender, Request::get("http://shop/api")).await;
    assert_eq!(status, 200);
    assert!(headers.contains_key("date"));
}

#[tokio::test]
async fn an_answer_says_nothing_of_the_connection() {
    let mut secured = Route::new("api", "/api");
    secured.schemes = Schemes::Https;
    let kit = start(config([secured])).await;
    let (mut sender, _drives) = client(kit.connect().await).await;
    let (status, headers, _) = ask(&mut sender, Request::get("http://shop/api")).await;
    assert_eq!(status, 426);
    assert!(!headers.contains_key("upgrade") && !headers.contains_key("connection"));
}

#[tokio::test]
async fn an_answer_that_panics_breaks_off_and_no_other_does() {
    let panics = || async {
        let body = stream::iter([0, 1]).map(|piece| match piece {
            0 => Ok::<_, std::io::Error>(Bytes::from_static(b"first")),
            _ => panic!("the body of a service"),
        });
        Body::from_stream(body)
    };
    let (router, began, go_on) = gated();
    let router = router.route("/panics", any(panics));
    let kit = start_with(config([Route::new("api", "/")]), router, Limits::default()).await;
    let (mut sender, _drives) = client(kit.connect().await).await;
    let mut other = sender.clone();
    let waits = async { ask(&mut other, Request::get("http://shop/")).await.0 };
    let breaks = async {
        began.acquire().await.unwrap().forget();
        let request = Request::get("http://shop/panics").body(Body::empty());
        // The head may go down with it.
        if let Ok(response) = sender.send_request(request.unwrap()).await {
            assert!(response.into_body().collect().await.is_err());
        }
        go_on.add_permits(1);
    };
    let (status, ()) = tokio::join!(waits, breaks);
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_of_a_connection_are_answered_by_more_than_one_thread() {
    /// Meets who comes here at the same time, without giving way to anybody.
    fn meet(end: &(Sender<()>, Mutex<Receiver<()>>)) -> StatusCode {
        let (tell, hear) = end;
        tell.send(()).unwrap();
        match hear.lock().unwrap().recv_timeout(SOON) {
            Ok(()) => StatusCode::OK,
            Err(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }
    let ((to_b, from_a), (to_a, from_b)) = (channel(), channel());
    let a = Arc::new((to_b, Mutex::new(from_b)));
    let b = Arc::new((to_a, Mutex::new(from_a)));
    let meets = |end: Arc<_>| any(move || std::future::ready(meet(&end)));
    let router = Router::new().route("/a", meets(a)).route("/b", meets(b));
    let kit = start_with(config([Route::new("api", "/")]), router, Limits::default()).await;
    let (mut sender, _drives) = client(kit.connect().await).await;
    let mut other = sender.clone();
    let (a, b) = tokio::join!(
        ask(&mut sender, Request::get("http://shop/a")),
        ask(&mut other, Request::get("http://shop/b")),
    );
    assert_eq!((a.0, b.0), (StatusCode::OK, StatusCode::OK));
}
