use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderName, USER_AGENT};
use http::{Extensions, HeaderMap, Uri};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::body::Framing;
use super::chunked::{Chunked, Piece};
use super::*;

/// A server that answers every request with this, and closes the connection then or keeps it.
struct Server {
    client: Client,
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

async fn server(answer: impl Into<Bytes>, closes: bool) -> Server {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at: http::uri::Authority = listener.local_addr().unwrap().to_string().parse().unwrap();
    let (connections, heads) = (
        Arc::<AtomicUsize>::default(),
        Arc::<Mutex<Vec<_>>>::default(),
    );
    let (count, told) = (connections.clone(), heads.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Relaxed);
            let (answer, told) = (answer.clone(), told.clone());
            open.spawn(async move {
                loop {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else {
                            return;
                        };
                        head.push(byte);
                    }
                    told.lock().push(String::from_utf8(head).unwrap());
                    if stream.write_all(&answer).await.is_err() || closes {
                        return;
                    }
                }
            });
        }
    });
    let bounds = Bounds {
        idle_max: Duration::from_secs(60),
        idle_count_max: 8,
    };
    let host = HeaderValue::from_static("kept.example.com");
    Server {
        client: Client::to(host, Arc::new(at), bounds),
        connections,
        heads,
        _tasks: tasks,
    }
}

impl Server {
    async fn send(&self, method: Method) -> Result<Response<Answer>, Unanswered> {
        let (uri, headers) = (Uri::from_static("/a?b=c"), HeaderMap::new());
        let head = RequestHead {
            method: &method,
            uri: &uri,
            headers: &headers,
            more: &[],
            host: None,
            extensions: &Extensions::new(),
        };
        self.client.send(head, &Stage::default()).await
    }

    /// Status, body and trailers of an answer, or why there is none.
    async fn ask(&self, method: Method) -> Result<(u16, String, HeaderMap), String> {
        let answer = self
            .send(method)
            .await
            .map_err(|unanswered| trunkline_core::report(&unanswered.error).to_string())?;
        let status = answer.status().as_u16();
        let whole = answer.into_body().collect().await;
        let whole = whole.map_err(|error| error.to_string())?;
        let trailers = whole.trailers().cloned().unwrap_or_default();
        let text = String::from_utf8(whole.to_bytes().to_vec()).unwrap();
        Ok((status, text, trailers))
    }

    fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }
}

#[tokio::test]
async fn answers_end_where_they_say_and_their_connections_are_kept() {
    let long = "x".repeat(100_000);
    let by_length = format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{long}");
    let cases: [(&str, Method, (u16, &str)); 7] = [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            Method::GET,
            (200, "ok"),
        ),
        (&by_length, Method::GET, (200, &long)),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n",
            Method::HEAD,
            (200, ""),
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", Method::GET, (204, "")),
        (
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
            Method::GET,
            (304, ""),
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 Fine\r\ncontent-length: 2, 2\r\n\r\nok",
            Method::GET,
            (200, "ok"),
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\ncontent-length: 9\r\n\r\n2;a=b\r\nok\r\n0\r\n\r\n",
            Method::GET,
            (200, "ok"),
        ),
    ];
    for (answer, method, expected) in cases {
        let server = server(answer.to_owned(), false).await;
        for _ in 0..2 {
            let (status, text, _) = server.ask(method.clone()).await.unwrap();
            assert_eq!((status, &*text), expected, "{answer}");
        }
        assert_eq!(server.connections(), 1, "{answer}");
    }
}

#[tokio::test]
async fn a_connection_of_which_nobody_knows_how_it_goes_on_is_not_kept() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1",
        "HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ] {
        let server = server(answer, false).await;
        for _ in 0..2 {
            let (status, text, _) = server.ask(Method::GET).await.unwrap();
            assert!(
                [(200, "ok"), (101, "")].contains(&(status, &*text)),
                "{answer}"
            );
        }
        assert_eq!(server.connections(), 2, "{answer}");
    }
}

#[tokio::test]
async fn an_answer_without_an_end_ends_with_its_connection_and_trailers_come_last() {
    let until_closed = server("HTTP/1.1 200 OK\r\n\r\nall of it", true).await;
    let (_, text, _) = until_closed.ask(Method::GET).await.unwrap();
    assert_eq!(text, "all of it");
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\nx-sum: 7\r\n\r\n";
    let chunks = server(answer, false).await;
    let (_, text, trailers) = chunks.ask(Method::GET).await.unwrap();
    assert_eq!(
        (&*text, &trailers["x-sum"]),
        ("abc0123456789", &HeaderValue::from_static("7"))
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(HEAD_BYTES_MAX));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
    let trailers = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: {}",
        "y".repeat(17 * 1024)
    );
    let size = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;{}",
        "y".repeat(17 * 1024)
    );
    let chunk = |text: &str| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{text}");
    for answer in [
        endless,
        many,
        trailers,
        size,
        "SSH-2.0-x\r\n\r\n".to_owned(),
        "HTTP/1.1 20 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\na b: c\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\nok".to_owned(),
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
            .to_owned(),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nok".to_owned(),
        chunk("-1\r\na\r\n0\r\n\r\n"),
        chunk("11111111111111111\r\na"),
        chunk("1 a\r\na\r\n0\r\n\r\n"),
        chunk("1\na\r\n0\r\n\r\n"),
        chunk("1\r\nab\r\n0\r\n\r\n"),
        chunk("\r\na\r\n0\r\n\r\n"),
        chunk("0\r\na b: c\r\n\r\n"),
        // It breaks off.
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok".to_owned(),
        chunk("3\r\nok"),
        "HTTP/1.1 200 OK\r\n".to_owned(),
        String::new(),
    ] {
        let told = answer.chars().take(100).collect::<String>();
        let server = server(answer, true).await;
        let refused = server.ask(Method::GET).await;
        assert!(refused.is_err(), "{told}: {refused:?}");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_costs_no_request() {
    // It is kept, for nothing says that it is closed.
    let server = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", true).await;
    for count in 1..4 {
        // Whether it is closed is known before it is used, or when nothing comes.
        let asked = server.send(Method::POST).await;
        match asked {
            Ok(answer) => assert_eq!(answer.status(), 200),
            Err(unanswered) => assert!(unanswered.was_kept && !unanswered.is_untouched),
        }
        assert!(server.heads.lock().len() <= count, "it was sent twice");
    }
}

#[tokio::test]
async fn what_nobody_took_may_go_elsewhere_and_what_broke_may_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at: http::uri::Authority = listener.local_addr().unwrap().to_string().parse().unwrap();
    drop(listener);
    let mut nobody = server("", true).await;
    let silent = nobody.send(Method::GET).await.err().unwrap();
    assert!(!silent.is_untouched && !silent.was_kept, "{silent:?}");
    nobody.client.dial = Arc::new(at);
    let unsent = nobody.send(Method::GET).await.err().unwrap();
    assert!(unsent.is_untouched, "{unsent:?}");
    assert_eq!(unsent.error.code(), "service_unreachable");
}

#[test]
fn a_head_is_written_once_with_what_stands_in_place_of_it() {
    let mut headers = HeaderMap::new();
    headers.append("accept", HeaderValue::from_static("a"));
    headers.append("accept", HeaderValue::from_static("b"));
    headers.insert(USER_AGENT, HeaderValue::from_static("theirs"));
    let (name, ours) = (USER_AGENT, HeaderValue::from_static("ours"));
    let uri = Uri::from_static("http://elsewhere.example.com?q");
    let mut head = RequestHead {
        method: &Method::GET,
        uri: &uri,
        headers: &headers,
        more: &[(name, ours)],
        host: None,
        extensions: &Extensions::new(),
    };
    let kept = HeaderValue::from_static("kept.example.com");
    let written = |head: &RequestHead<'_>| String::from_utf8(head.encode(&kept)).unwrap();
    let rest = "accept: a\r\naccept: b\r\nuser-agent: ours\r\n\r\n";
    let expected = format!("GET /?q HTTP/1.1\r\nhost: kept.example.com\r\n{rest}");
    assert_eq!(written(&head), expected);
    let named = HeaderValue::from_static("named.example.com");
    head.host = Some(&named);
    assert_eq!(written(&head), expected.replace("kept", "named"));
    // A request of its own says the same.
    let request = head.to_request(());
    assert_eq!(request.headers()[HOST], "named.example.com");
    assert_eq!(request.headers()[USER_AGENT], "ours");
    assert_eq!(request.headers().get_all("accept").iter().count(), 2);
}

#[test]
fn pieces_make_no_difference() {
    let head = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Gone Fishing\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n";
    let body = "5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nsum: 1\r\n\r\n";
    let (mut held, mut received) = (BytesMut::new(), None);
    for byte in head.bytes() {
        assert!(received.is_none());
        let known = held.len();
        held.extend_from_slice(&[byte]);
        received = head::receive(&mut held, known, &Method::GET).unwrap();
    }
    let received = received.unwrap();
    let (response, framing) = (received.response, received.framing);
    assert_eq!(
        (response.status().as_u16(), &response.headers()["a"]),
        (404, &HeaderValue::from_static("b"))
    );
    let reason = response
        .extensions()
        .get::<hyper::ext::ReasonPhrase>()
        .unwrap();
    assert_eq!(reason.as_bytes(), b"Gone Fishing");
    assert!(received.keeps && received.rest.is_empty());
    assert_eq!(framing, Framing::chunked());
    let (mut chunked, mut all, mut trailers) = (Chunked::new(), Vec::new(), None);
    for byte in body.bytes() {
        held.extend_from_slice(&[byte]);
        loop {
            match chunked.take(&mut held).unwrap() {
                Piece::Data(data) => all.extend(data),
                Piece::Trailers(told) => trailers = Some(told),
                Piece::End | Piece::Unread => break,
            }
        }
    }
    assert_eq!(all, b"hello!");
    assert!(chunked.is_over());
    assert_eq!(trailers.unwrap()[HeaderName::from_static("sum")], "1");
}
