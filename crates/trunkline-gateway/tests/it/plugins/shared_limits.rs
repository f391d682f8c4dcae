use std::time::Duration;

use tokio::task::JoinSet;
use trunkline_testkit::{eventually, redis::Server};

use super::{gateway, read};
use crate::kit::{Kit, Lines, SOON};

/// Longer than an answer of Redis takes, on whatever machine; a server that is gone is known at once.
const NEVER: u32 = 60_000;

/// A route with a limit that is shared in this Redis.
fn file(server: &Server, settings: &str) -> String {
    file_of(server, settings, NEVER)
}

/// The same, with how many milliseconds an answer may take.
fn file_of(server: &Server, settings: &str, timeout: u32) -> String {
    let port = server.port();
    format!(
        r"
services:
- name: echo
  routes:
  - name: api
    paths: [/api]
    plugins: [{{name: rate-limiting, config: {{policy: redis, redis: {{host: 127.0.0.1, port: {port}, timeout: {timeout}}}, {settings}}}}}]
"
    )
}

/// What so many requests at once are answered.
async fn statuses(kits: &[&Kit], count: usize) -> Vec<u16> {
    let address = |index: usize| kits[index % kits.len()].address;
    let mut asking = JoinSet::new();
    for index in 0..count {
        let address = address(index);
        asking.spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let request = b"GET /api HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer[9..12].parse().unwrap()
        });
    }
    asking.join_all().await
}

#[tokio::test]
async fn two_gateways_share_a_limit_exactly() {
    let server = Server::start();
    let file = file(&server, "day: 50, hour: 10000");
    let (one, two) = (gateway(&file).await, gateway(&file).await);
    let answers = statuses(&[&one, &two], 160).await;
    let passed = answers.iter().filter(|status| **status == 200).count();
    assert_eq!(passed, 50, "{answers:?}");
    assert!(answers.iter().all(|status| [200, 429].contains(status)));
    let refused = two.get("/api").await;
    refused.is_problem(429, "rate_limit_exceeded");
    assert_eq!(refused.header("x-ratelimit-remaining-day"), Some("0"));
    let hour = refused.header("x-ratelimit-remaining-hour");
    assert_eq!(hour, Some("9950"), "what is refused is counted nowhere");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&wait), "{wait}");
    let keys = server.cli().arg("DBSIZE").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&keys.stdout).trim(), "1");
    let lives = server
        .cli()
        .args([
            "EVAL",
            "return redis.call('TTL', redis.call('KEYS', '*')[1])",
            "0",
        ])
        .output();
    let lives = String::from_utf8_lossy(&lives.unwrap().stdout)
        .trim()
        .to_owned();
    assert!(
        (1..=86_400).contains(&lives.parse::<i64>().unwrap()),
        "it goes by itself: {lives}"
    );
}

#[tokio::test]
async fn nothing_fails_while_redis_is_away_and_it_is_said_once() {
    let lines = Lines::new();
    let server = Server::start();
    let kit = gateway(&file(&server, "day: 1000000")).await;
    for _ in 0..3 {
        assert!(
            statuses(&[&kit], 20)
                .await
                .iter()
                .all(|status| *status == 200)
        );
    }
    let counted = kit.get("/api").await;
    assert_eq!(counted.header("x-ratelimit-remaining-day"), Some("999939"));
    let asking = async {
        let mut answers = Vec::new();
        for _ in 0..10 {
            answers.extend(statuses(&[&kit], 20).await);
        }
        answers
    };
    let killing = async {
        tokio::task::yield_now().await;
        server.kill();
    };
    let (answers, ()) = tokio::join!(asking, killing);
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    let here = kit.get("/api").await;
    let left = here.header("x-ratelimit-remaining-day").unwrap();
    assert!(
        left.parse::<u32>().unwrap() > 999_700,
        "counted here: {left}"
    );
    assert_eq!(lines.with("limits can't be shared"), 1);
    for _ in 0..3 {
        // Time goes by at once, and one request tries again.
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(5)).await;
        tokio::time::resume();
        assert_eq!(kit.get("/api").await.status, 200);
    }
    assert_eq!(lines.with("limits can't be shared"), 1, "once");
    server.restart();
    eventually(SOON, async || {
        assert_eq!(kit.get("/api").await.status, 200);
        lines.with("limits are shared again") == 1
    })
    .await;
    let again = kit.get("/api").await;
    let left: u32 = again
        .header("x-ratelimit-remaining-day")
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        left < 999_939,
        "what was counted there before holds: {left}"
    );
    assert_eq!(lines.with("limits can't be shared"), 1);
}

#[tokio::test]
async fn a_redis_that_hangs_holds_up_few_requests() {
    let server = Server::start();
    let kit = gateway(&file_of(&server, "day: 1000000", 500)).await;
    assert_eq!(kit.get("/api").await.status, 200);
    server.pause();
    let first = kit.get("/api").await;
    assert_eq!(first.status, 200, "after its timeout");
    let began = std::time::Instant::now();
    for _ in 0..30 {
        assert_eq!(kit.get("/api").await.status, 200);
    }
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(10),
        "each of them would take half a second: {took:?}"
    );
    server.resume();
}

#[tokio::test]
async fn without_tolerance_nothing_passes_that_is_not_counted() {
    let server = Server::start();
    let kit = gateway(&file(&server, "day: 10, fault_tolerant: false")).await;
    assert_eq!(kit.get("/api").await.status, 200);
    server.kill();
    kit.get("/api").await.is_problem(500, "internal");
    kit.get("/api").await.is_problem(500, "internal");
    server.restart();
    eventually(SOON, async || kit.get("/api").await.status == 200).await;
}

#[tokio::test]
async fn the_older_names_a_password_and_a_database_are_understood() {
    let server = Server::start_with(&["--requirepass", "secret"]);
    let port = server.port();
    let file = |password: &str| {
        format!(
            "services: [{{name: echo, routes: [{{name: api, paths: [/api]}}], plugins: [{{name: rate-limiting, config: {{
            day: 1, policy: redis, sync_rate: -1, fault_tolerant: false, redis_host: 127.0.0.1, redis_port: {port},
            redis_password: {password}, redis_database: 3, redis_timeout: 2000, redis_ssl: false}}}}]}}]"
        )
    };
    let kit = gateway(&file("secret")).await;
    assert_eq!(kit.get("/api").await.status, 200);
    kit.get("/api").await.is_problem(429, "rate_limit_exceeded");
    let wrong = gateway(&file("wrong")).await;
    wrong.get("/api").await.is_problem(500, "internal");
    let text = format!("{:?}", read(&file("secret")).services[0].routes);
    assert!(!text.contains("secret"), "{text}");
}
