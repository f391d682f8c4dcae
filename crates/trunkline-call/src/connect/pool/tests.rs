use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use trunkline_core::ErrorKind;

use super::*;

/// A server that counts connections and requests, closes a connection after so many answers, and answers with this.
struct Server {
    pool: Arc<Pool>,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    /// Says when each connection was closed.
    ends: Arc<Mutex<Vec<oneshot::Receiver<()>>>>,
    _tasks: JoinSet<()>,
}

async fn server(answers_max: usize, answer: &'static str) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let (connections, requests) = (Arc::default(), Arc::default());
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let ends: Arc<Mutex<Vec<oneshot::Receiver<()>>>> = Arc::default();
    let ended = ends.clone();
    let (counts, told) = (
        (Arc::clone(&connections), Arc::clone(&requests)),
        heads.clone(),
    );
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let (connections, requests): &(Arc<AtomicUsize>, Arc<AtomicUsize>) = &counts;
            connections.fetch_add(1, Relaxed);
            let (requests, told) = (requests.clone(), told.clone());
            let (end, closed) = oneshot::channel();
            ended.lock().push(closed);
            open.spawn(async move {
                for _ in 0..answers_max {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else {
                            return;
                        };
                        head.push(byte);
                    }
                    requests.fetch_add(1, Relaxed);
                    told.lock().push(String::from_utf8(head).unwrap());
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
                drop(stream);
                end.send(()).unwrap_or_default();
            });
        }
    });
    Server {
        pool: Arc::new(Pool::new(at.parse().unwrap()).unwrap()),
        connections,
        requests,
        heads,
        ends,
        _tasks: tasks,
    }
}

const SHORT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

impl Server {
    async fn ask(&self) -> Result<Response<Body>> {
        let request = Request::post("http://elsewhere/a?b=c")
            .body(Body::empty())
            .unwrap();
        self.pool.clone().call(request).await
    }

    async fn text(&self) -> String {
        let body = self.ask().await.unwrap().into_body();
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    fn counts(&self) -> (usize, usize, usize) {
        let idle = self.pool.idle.count();
        (
            self.connections.load(Relaxed),
            self.requests.load(Relaxed),
            idle,
        )
    }
}

#[tokio::test]
async fn one_connection_has_one_request_after_the_other() {
    let server = server(usize::MAX, SHORT).await;
    for _ in 0..10 {
        assert_eq!(server.text().await, "ok");
    }
    assert_eq!(server.counts(), (1, 10, 1));
    let head = server.heads.lock()[0].clone();
    assert!(head.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains(&format!("host: {}\r\n", server.pool.host.to_str().unwrap())),
        "{head}"
    );
    // Those at once have one each, and all are kept.
    let three = futures::join!(server.text(), server.text(), server.text());
    assert_eq!(three.0, three.2);
    assert_eq!(server.counts(), (3, 13, 3));
}

#[tokio::test]
async fn what_was_closed_while_it_was_idle_costs_no_request() {
    // A POST is not sent twice: the server has seen as many as were asked.
    let server = server(2, SHORT).await;
    for asked in 1..=40 {
        assert_eq!(server.text().await, "ok", "{asked}");
        if asked % 2 == 0 {
            // Its end is here before the next request is, and nobody has read it.
            let stream = server.ends.lock().pop().unwrap();
            let ended = tokio::time::timeout(Duration::from_secs(20), stream);
            ended.await.unwrap().unwrap();
        }
    }
    assert_eq!(server.requests.load(Relaxed), 40);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_takes_its_connection_along() {
    let server = server(
        usize::MAX,
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
    )
    .await;
    drop(server.ask().await.unwrap());
    assert_eq!(server.counts().2, 0);
    let mut body = server.ask().await.unwrap().into_body();
    assert!(body.frame().await.unwrap().is_ok());
    drop(body);
    assert_eq!(server.counts(), (2, 2, 0));
}

#[tokio::test]
async fn a_connection_that_breaks_off_is_an_error_and_is_not_tried_again() {
    for broken in ["", "HTTP/1.1 200", "no answer of ours\r\n\r\n"] {
        let server = server(1, broken).await;
        let error = server.ask().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{broken}");
        assert_eq!(server.counts(), (1, 1, 0), "{broken}");
    }
    let server = server(1, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
    let body = server.ask().await.unwrap().into_body();
    assert!(body.collect().await.is_err());
    assert_eq!(server.counts().2, 0);
}

#[tokio::test]
async fn what_nobody_uses_is_closed_in_time() {
    let server = server(usize::MAX, SHORT).await;
    assert_eq!(server.text().await, "ok");
    assert_eq!(server.counts().2, 1);
    tokio::time::pause();
    tokio::time::advance(IDLE_MAX + Duration::from_millis(10)).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.counts().2, 0, "the sweeper closed it");
    assert!(server.pool.idle.take().is_none());
    tokio::time::resume();
    assert_eq!(server.text().await, "ok");
    assert_eq!(server.counts(), (2, 2, 1));
}

#[tokio::test]
async fn an_answer_of_101_gives_the_connection_away() {
    let switched =
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nhi";
    let server = server(1, switched).await;
    let mut response = server.ask().await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
    let mut said = String::new();
    TokioIo::new(upgraded)
        .read_to_string(&mut said)
        .await
        .unwrap();
    assert_eq!(said, "hi");
    assert!(server.pool.idle.count() == 0, "it is kept for nobody");
}

#[tokio::test]
async fn a_body_that_its_sender_breaks_off_is_no_fault_of_the_service() {
    // One that takes connections, and answers nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = silent.local_addr().unwrap().to_string();
    let pool = Arc::new(Pool::new(at.parse().unwrap()).unwrap());
    let broken = [
        Ok(Bytes::from_static(b"one")),
        Err(std::io::Error::other("no more")),
    ];
    let body = Body::from_stream(futures::stream::iter(broken));
    let request = Request::post("http://elsewhere/").body(body).unwrap();
    let error = pool.call(request).await.map(drop).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::InvalidInput, "request_broken")
    );
}

#[tokio::test]
async fn an_answer_that_comes_with_its_head_gives_its_connection_back_at_once() {
    let short = server(usize::MAX, SHORT).await;
    let answer = short.ask().await.unwrap();
    assert!(AtHand::is(&answer));
    assert_eq!(short.counts(), (1, 1, 1), "before anybody has read it");
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
    assert_eq!(short.counts(), (1, 1, 1));

    // A longer one is read from its connection, also what of it came with the head.
    let bytes = usize::try_from(AT_HAND_BYTES_MAX).unwrap() + 1;
    let long = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n{}",
        "x".repeat(bytes)
    );
    let long = server(usize::MAX, long.leak()).await;
    let answer = long.ask().await.unwrap();
    assert!(!AtHand::is(&answer));
    assert_eq!(long.counts(), (1, 1, 0));
    assert_eq!(answer.body().size_hint().exact(), Some(bytes as u64));
    assert_eq!(
        answer.into_body().collect().await.unwrap().to_bytes().len(),
        bytes
    );
    assert_eq!(long.counts(), (1, 1, 1));
}

#[tokio::test]
async fn a_part_that_comes_with_the_head_is_the_first_that_is_read() {
    let server = server(
        usize::MAX,
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
    )
    .await;
    let mut answer = server.ask().await.unwrap();
    assert!(!AtHand::is(&answer));
    assert_eq!(answer.body().size_hint().exact(), Some(9));
    let first = answer.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "half");
    assert_eq!(answer.body().size_hint().exact(), Some(5));
}
