//! Targets that are slow, break off or speak no HTTP.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use trunkline_testkit::eventually;

use crate::kit::{Kit, SOON, read_all, start, start_with};
use crate::targets::{Does, Target, file};

async fn in_front_of(target: &Target, service: &str) -> Kit {
    start(file(&format!("http://{}", target.at), service, "")).await
}

#[tokio::test]
async fn who_gives_no_answer_in_time_is_not_waited_for() {
    let target = Target::start("t-a").await;
    let kit = in_front_of(&target, "  read_timeout: 50\n  retries: 2\n").await;
    target.does(Does::Hangs);
    kit.send("POST /r", "", "body")
        .await
        .is_problem(504, "upstream_timeout");
    assert_eq!(target.requests(), 1);
    // What does no harm is tried again.
    kit.get("/r").await.is_problem(504, "upstream_timeout");
    assert_eq!(target.requests(), 4);
    // A connection that was given up is not used again.
    target.does(Does::Answers(200));
    assert_eq!(kit.get("/r").await.body, "t-a");
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_is_no_answer() {
    let target = Target::start("t-a").await;
    let kit = in_front_of(&target, "  read_timeout: 50\n  retries: 0\n").await;
    target.does(Does::Repeats("HTTP/1.1 200 OK\r\nx: "));
    let answer = kit.get("/r").await;
    assert!(matches!(answer.status, 502 | 504), "{answer:?}");
}

#[tokio::test]
async fn a_body_that_pauses_for_too_long_is_cut_off() {
    let target = Target::start("t-a").await;
    let kit = in_front_of(&target, "  read_timeout: 50\n").await;
    target.does(Does::Pauses);
    let text = kit.raw("GET /r HTTP/1.1\r\nhost: shop\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.ends_with("half"), "{text}");
    target.does(Does::Answers(200));
    assert_eq!(kit.get("/r").await.body, "t-a");
}

#[tokio::test]
async fn a_target_that_takes_nothing_more_is_not_waited_for() {
    // It accepts and never reads.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let health = "  healthchecks: {passive: {unhealthy: {timeouts: 1}}}\n";
    let upstream = format!("upstreams:\n- name: u\n{health}  targets: [{{target: '{at}'}}]\n");
    let kit = start(file("http://u", "  write_timeout: 50\n", &upstream)).await;
    let mut stream = kit.connect().await;
    let head = "POST /r HTTP/1.1\r\nhost: shop\r\ncontent-length: 1000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b'x'; 1 << 16];
    let written = async {
        while stream.write_all(&piece).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    let judged = eventually(SOON, async || !kit.gateway.upstreams()[0].is_healthy);
    tokio::select! {
        () = written => {}
        () = judged => {}
    }
}

#[tokio::test]
async fn a_client_that_pauses_is_no_fault_of_the_target() {
    let target = Target::start("t-a").await;
    let health = format!(
        "upstreams:\n- name: u\n  healthchecks: {{passive: {{unhealthy: {{timeouts: 1, tcp_failures: 1}}}}}}\n  targets: [{{target: '{}'}}]\n",
        target.at
    );
    let config = file(
        "http://u",
        "  write_timeout: 20\n  read_timeout: 20\n",
        &health,
    );
    let limits = {
        let mut limits = trunkline_gateway::Limits::default();
        limits.body_idle_max = Duration::from_millis(200);
        limits
    };
    let kit = start_with(config, crate::kit::echo(), limits).await;
    let mut stream = kit.connect().await;
    let head = "POST /r HTTP/1.1\r\nhost: shop\r\ncontent-length: 9\r\n\r\nhalf";
    stream.write_all(head.as_bytes()).await.unwrap();
    let text = read_all(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 408"), "{text}");
    assert!(kit.gateway.upstreams()[0].is_healthy);
}

#[tokio::test]
async fn what_is_no_answer_is_a_problem_and_takes_its_connection_along() {
    let target = Target::start("t-a").await;
    let kit = in_front_of(&target, "  retries: 0\n").await;
    for said in [
        "",
        "HTTP/1.1 200",
        "no answer of ours\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbroken header\r\n\r\n",
        "HTTP/3 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ] {
        target.does(Does::Says(said));
        kit.get("/r").await.is_problem(502, "upstream_unreachable");
        target.does(Does::Answers(200));
        assert_eq!(kit.get("/r").await.body, "t-a", "{said:?}");
    }
}

#[tokio::test]
async fn a_length_is_told_where_it_holds_and_checked_where_nothing_follows() {
    let target = Target::start("t-a").await;
    let kit = in_front_of(&target, "  retries: 0\n").await;
    target.does(Does::Says(
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ));
    let chunked = kit.get("/r").await;
    assert_eq!(chunked.header("content-length"), None);
    assert!(chunked.body.contains("hello"), "{chunked:?}");
    target.does(Does::Says(
        "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello",
    ));
    let twice = kit.get("/r").await;
    assert_eq!(twice.header("content-length"), Some("5"));
    assert_eq!(twice.body, "hello");
    for length in ["1\r\ncontent-length: 2", "-1", "+1", ""] {
        let said = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        target.does(Does::Says(said.leak()));
        let head = kit.send("HEAD /r", "", "").await;
        assert_eq!(head.status, 502, "{length:?}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off() {
    let target = Target::start("t-a").await;
    let kit = in_front_of(&target, "").await;
    target.does(Does::Says(
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
    ));
    let text = kit.raw("GET /r HTTP/1.1\r\nhost: shop\r\n\r\n").await;
    // As far as it was sent on: never all that it says it has.
    assert!(text.is_empty() || text.ends_with("half"), "{text}");
    target.does(Does::Says(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
    ));
    let text = kit.raw("GET /r HTTP/1.1\r\nhost: shop\r\n\r\n").await;
    assert!(!text.contains("\r\n0\r\n"), "{text}");
}

#[tokio::test]
async fn a_head_without_an_end_is_refused() {
    let target = Target::start("t-a").await;
    let kit = in_front_of(&target, "  retries: 0\n").await;
    for said in ["x-more: and-more\r\n", "x"] {
        target.does(Does::Repeats(said));
        kit.get("/r").await.is_problem(502, "upstream_unreachable");
    }
    target.does(Does::Repeats("HTTP/1.1 200 OK\r\nx: y\r\nx: "));
    kit.get("/r").await.is_problem(502, "upstream_unreachable");
}

#[tokio::test]
async fn an_answer_byte_by_byte_is_an_answer() {
    let target = Target::start("t-a").await;
    let kit = in_front_of(&target, "").await;
    target.does(Does::Drips);
    assert_eq!(kit.get("/r").await.body, "slow!");
}

#[tokio::test]
async fn nobody_there_is_told_apart_from_a_name_without_an_address() {
    let mut target = Target::start("t-a").await;
    target.dies().await;
    let kit = in_front_of(&target, "").await;
    let answer = kit.get("/r").await;
    answer.is_problem(502, "upstream_unreachable");
    assert!(
        !answer.body.contains(&target.at.port().to_string()),
        "{answer:?}"
    );
    kit.gateway
        .reload(&file("http://no-such-name.invalid", "", ""))
        .unwrap();
    kit.get("/r").await.is_problem(503, "upstream_unresolved");
}
