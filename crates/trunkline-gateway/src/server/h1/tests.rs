use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::HeaderValue;
use http::header::CONTENT_LENGTH;
use http_body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::sync::watch;
use trunkline_call::Body;
use trunkline_core::Env;
use trunkline_telemetry::Telemetry;

use super::super::Stopping;
use super::super::door::{Door, Way};
use super::*;
use crate::{Config, Gateway};

const FILE: &str = r#"
services:
- name: none
  url: http://127.0.0.1:1
  routes:
  - {name: here, paths: [/here], plugins: [{name: request-termination, config: {status_code: 200, body: "here", content_type: text/plain}}]}
  - {name: nothing, paths: [/nothing], plugins: [{name: request-termination, config: {status_code: 204}}]}
"#;

const HERE: &str = "GET /here HTTP/1.1\r\nhost: h\r\n\r\n";

/// What a gateway answers to these bytes on a connection that carries so many at once, until it closes.
async fn answers(sent: &[u8], at_once: usize) -> String {
    let (near, far) = duplex(at_once);
    let (_stop, line) = line();
    let (mut read, mut write) = tokio::io::split(far);
    let mut all = String::new();
    let serve = line.answer(near, false);
    let send = async { write.write_all(sent).await.unwrap() };
    // hyper tells of what it refuses.
    let (_, (), read) = tokio::join!(serve, send, read.read_to_string(&mut all));
    read.unwrap();
    all
}

/// A connection's line to a gateway, and what stops that.
fn line() -> (watch::Sender<bool>, Line) {
    let env = Env::seeded(1);
    let config = Config::parse("kong.yml", FILE).unwrap();
    let gateway = Gateway::alone(&config, Telemetry::disabled(env.clone()), env).unwrap();
    gateway.inner.is_serving.store(true, Ordering::Release);
    let (stop, stopping) = watch::channel(false);
    let (_cut, cut) = watch::channel(false);
    let door = Arc::new(Door {
        gateway,
        way: Way::Plain,
        port: 80,
        lot: None,
        stopping: Stopping(stopping),
        cut,
    });
    (stop, door.line(([127, 0, 0, 1], 1).into(), None))
}

/// The status lines and the bodies of answers, without what is new in each.
fn told(answers: &str) -> Vec<String> {
    let answers = answers.split("HTTP/1.1 ").skip(1);
    let told = |answer: &str| {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let length = head.lines().find(|line| line.starts_with("content-length"));
        let closes = head.contains("connection: close");
        let body = if body.starts_with('{') { "{}" } else { body };
        let status = &head[..3];
        format!("{status} {} {body} {closes}", length.unwrap_or_default())
    };
    answers.map(told).collect()
}

/// The heads of answers, without what is new in each.
fn heads(answers: &str) -> Vec<Vec<&str>> {
    let answers = answers.split("HTTP/1.1 ").skip(1);
    let lines = |answer| {
        let head = str::split_once(answer, "\r\n\r\n").unwrap().0;
        let lines = head
            .lines()
            .filter(|line| !line.contains("-id: ") && !line.starts_with("date"));
        let mut lines: Vec<_> = lines.collect();
        lines.sort_unstable();
        lines
    };
    answers.map(lines).collect()
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_in_their_order_however_they_come_and_whoever_reads_them() {
    let plain = "GET /here HTTP/1.1\r\nhost: h\r\n\r\nHEAD /here HTTP/1.1\r\nhost: h\r\n\r\nGET /nothing HTTP/1.1\r\nhost: h\r\n\r\n";
    let other = "GET /here HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n";
    let last = "GET /here HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    let here = "200 content-length: 4 here false";
    let three = [here, "200 content-length: 4  false", "204   false"];
    for at_once in [1, 2, 3, 64, 1024, 64 * 1024] {
        let all = answers(format!("{plain}{other}{plain}{last}").as_bytes(), at_once).await;
        let end = "200 content-length: 4 here true";
        assert_eq!(
            told(&all),
            [&three[..], &[here], &three[..], &[end]].concat(),
            "{at_once}"
        );
        // hyper and we say the same.
        let heads = heads(&all);
        assert_eq!(heads[..3], heads[4..7], "{at_once}");
        assert_eq!(heads[0].len(), 3, "{heads:?}");
        // Without anything for hyper.
        let all = answers(format!("{plain}{last}").as_bytes(), at_once).await;
        assert_eq!(told(&all), [&three[..], &[end]].concat(), "{at_once}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_refused_after_the_answers_before_it() {
    let asked = "GET /here HTTP/1.1\r\nhost: h\r\n\r\nGET /here HTTP/1.1\r\nhost : h\r\n\r\n";
    for at_once in [1, 1024] {
        let all = answers(asked.as_bytes(), at_once).await;
        let statuses: Vec<_> = told(&all).iter().map(|told| told[..3].to_owned()).collect();
        assert_eq!(statuses, ["200", "400"], "{all}");
    }
}

/// Nothing besides, at the beginning of time.
fn nothing() -> (AnswerHeaders, Timestamp) {
    (AnswerHeaders::default(), Timestamp::UNIX_EPOCH)
}

/// An answer's body of these pieces; it says that it has ended with the last one, or not before it is asked again.
struct Pieces(Vec<&'static str>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let pieces = &mut self.get_mut().0;
        let piece = (!pieces.is_empty()).then(|| pieces.remove(0));
        Poll::Ready(piece.map(|piece| Ok(Frame::data(Bytes::from(piece)))))
    }
}

/// What is sent of an answer with this length, and whether the connection is kept then.
async fn sent(length: Option<&'static str>, pieces: &[&'static str]) -> (String, Option<bool>) {
    let (mut near, mut far) = duplex(1024 * 1024);
    let mut answer = Response::new(Pieces(pieces.to_vec()));
    let headers = answer.headers_mut();
    headers.insert("date", HeaderValue::from_static("d"));
    headers.extend(length.map(|length| (CONTENT_LENGTH, HeaderValue::from_static(length))));
    let mut wire = Wire {
        stream: &mut near,
        held: BytesMut::new(),
    };
    let kept = wire.send(answer, (&Method::GET, true), nothing());
    let kept = kept.await.ok();
    drop(near);
    let mut all = String::new();
    far.read_to_string(&mut all).await.unwrap();
    let head = "HTTP/1.1 200 OK\r\ndate: d\r\n";
    (all.strip_prefix(head).unwrap_or(&all).to_owned(), kept)
}

#[tokio::test]
async fn bodies_are_framed_by_their_length_or_in_chunks() {
    static LONG: &str = include_str!("tests.rs");
    assert!(LONG.len() > COPY_BYTES_MAX);
    let long_chunk = format!("{:x}\r\n{LONG}\r\n", LONG.len());
    let cases: [(_, &[&str], _, _); 7] = [
        (
            Some("4"),
            &["ab", "cd"],
            "content-length: 4\r\n\r\nabcd".to_owned(),
            Some(true),
        ),
        // What is too much is nobody's answer.
        (
            Some("4"),
            &["abc", "def"],
            "content-length: 4\r\n\r\nabcd".to_owned(),
            Some(true),
        ),
        // The client has to learn that some of it is missing.
        (
            Some("4"),
            &["ab"],
            "content-length: 4\r\n\r\nab".to_owned(),
            None,
        ),
        (Some("+4"), &["abcd"], String::new(), None),
        (
            None,
            &[],
            "transfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            Some(true),
        ),
        (
            None,
            &["ab", "", "cde"],
            "transfer-encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n".to_owned(),
            Some(true),
        ),
        (
            None,
            &[LONG, "f"],
            format!("transfer-encoding: chunked\r\n\r\n{long_chunk}1\r\nf\r\n0\r\n\r\n"),
            Some(true),
        ),
    ];
    for (length, pieces, expected, kept) in cases {
        assert_eq!(
            sent(length, pieces).await,
            (expected, kept),
            "{length:?} {pieces:?}"
        );
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_ends_the_connection_and_what_there_was_is_sent() {
    let (mut near, mut far) = duplex(1024);
    let pieces = futures::stream::iter([Ok("ab"), Err(io::Error::other("broken"))]);
    let answer = Response::new(Body::from_stream(pieces));
    let mut wire = Wire {
        stream: &mut near,
        held: BytesMut::new(),
    };
    let sent = wire.send(answer, (&Method::GET, true), nothing());
    assert!(sent.await.is_err());
    drop(near);
    let mut all = String::new();
    far.read_to_string(&mut all).await.unwrap();
    assert!(
        all.contains("\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"),
        "{all}"
    );
    assert!(all.ends_with("\r\n\r\n2\r\nab\r\n"), "{all}");
}

#[tokio::test]
async fn who_has_gone_away_is_worked_for_no_longer() {
    let (mut near, mut far) = duplex(1024);
    let mut wire = Wire {
        stream: &mut near,
        held: BytesMut::new(),
    };
    // What it sends ahead is kept.
    far.write_all(b"GET").await.unwrap();
    let done = wire.unless_gone(pin!(tokio::task::yield_now())).await;
    assert!(done.is_ok() && wire.held == "GET");
    wire.held.clear();
    drop(far);
    let gone = wire.unless_gone(pin!(std::future::pending::<()>())).await;
    assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

/// What has become of a connection that can be parked and says this, and after how long. A stop begins after `stop`.
async fn silent(says: &[u8], parks: bool, stop: Option<Duration>) -> (Option<Rest>, Duration) {
    let (mut near, mut far) = duplex(1024);
    let (stops, line) = line();
    let mut wait = Wait::new(Duration::from_secs(30), parks);
    far.write_all(says).await.unwrap();
    let begun = Instant::now();
    let stopping = async {
        if let Some(after) = stop {
            tokio::time::sleep(after).await;
            stops.send_replace(true);
        }
    };
    let (rest, ()) = tokio::join!(line.answer_plain(&mut near, &mut wait), stopping);
    assert_eq!(wait.is_new, says.len() < HERE.len());
    (rest.ok(), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_for_a_second_is_parked_and_who_has_begun_to_ask_is_not() {
    let seconds = |(rest, took): (Option<Rest>, Duration)| (rest, took.as_secs());
    for says in ["", HERE] {
        let parked = seconds(silent(says.as_bytes(), true, None).await);
        assert!(matches!(parked, (Some(Rest::Silent), 1)), "{says}");
        let kept = seconds(silent(says.as_bytes(), false, None).await);
        assert!(matches!(kept, (Some(Rest::Ended), 30)), "{says}");
        let stopped = silent(says.as_bytes(), true, Some(Duration::from_millis(500))).await;
        assert!(matches!(stopped.0, Some(Rest::Ended)), "{says}");
        assert_eq!(stopped.1.as_millis() / 100, 15, "{says}");
    }
    for says in ["GET", &format!("{HERE}GET")] {
        for stop in [None, Some(Duration::from_millis(500))] {
            let begun = seconds(silent(says.as_bytes(), true, stop).await);
            assert!(matches!(begun, (None, 30)), "{says}");
        }
    }
}
