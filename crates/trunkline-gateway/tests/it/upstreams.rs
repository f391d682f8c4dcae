//! Services that the gateway reaches by itself: which target gets a request, and who is left out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use trunkline_testkit::eventually;

use crate::kit::{Kit, SOON, read_until, start};
use crate::targets::{Does, Target, file, upstream};

impl Kit {
    /// How many requests each target answered, by its name.
    async fn shares(
        &self,
        count: usize,
        headers: impl Fn(usize) -> String,
    ) -> BTreeMap<String, usize> {
        let mut shares = BTreeMap::new();
        for at in 0..count {
            let answer = self.send("GET /r", &headers(at), "").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            *shares.entry(answer.body).or_default() += 1;
        }
        shares
    }

    fn healthy(&self) -> Vec<bool> {
        let upstreams = self.gateway.upstreams();
        upstreams[0]
            .targets
            .iter()
            .map(|target| target.is_healthy)
            .collect()
    }
}

/// Sends requests on kept connections until told to stop; every answer has to be good.
struct Load {
    ends: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: JoinSet<()>,
}

impl Load {
    async fn begin(kit: &Kit, clients: usize, request: &'static str) -> Self {
        let mut load = Self {
            ends: Arc::default(),
            answered: Arc::default(),
            clients: JoinSet::new(),
        };
        for _ in 0..clients {
            let mut stream = kit.connect().await;
            let (ends, answered) = (load.ends.clone(), load.answered.clone());
            load.clients.spawn(async move {
                while !ends.load(Relaxed) {
                    stream.write_all(request.as_bytes()).await.unwrap();
                    let answer = read_until(&mut stream, "\r\n\r\n").await;
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                    if !answer.contains("\r\n\r\nt-") {
                        read_until(&mut stream, "t-").await;
                    }
                    answered.fetch_add(1, Relaxed);
                }
            });
        }
        load
    }

    /// Waits until so many more have been answered.
    async fn more(&self, count: u64) {
        let until = self.answered.load(Relaxed) + count;
        eventually(SOON, async || self.answered.load(Relaxed) >= until).await;
    }

    async fn end(mut self) {
        self.ends.store(true, Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
    }
}

const GET: &str = "GET /r HTTP/1.1\r\nhost: shop\r\n\r\n";
const POST: &str = "POST /r HTTP/1.1\r\nhost: shop\r\ncontent-length: 3\r\n\r\nabc";

/// One failed connection makes a target unhealthy; asking it every 20 ms finds it again.
const CHECKED: &str = "  healthchecks:
    active: {healthy: {interval: 0.02, successes: 1}, unhealthy: {interval: 0.02, tcp_failures: 1}}
    passive: {unhealthy: {tcp_failures: 1}}\n";

#[tokio::test]
async fn what_the_target_is_told() {
    let target = Target::start("t-a").await;
    let port = target.at.port();
    let kit = start(file(&format!("http://127.0.0.1:{port}/base"), "", "")).await;
    assert_eq!(kit.get("/r/x?y=1").await.body, "t-a");
    let head = target.last_head();
    assert!(head.starts_with("GET /base/x?y=1 HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains(&format!("\r\nhost: 127.0.0.1:{port}\r\n")),
        "{head}"
    );
    assert!(head.contains("x-forwarded-host: shop\r\n"), "{head}");
    assert!(!head.contains("x-trunkline"), "{head}");
    // A name, and the client's own host.
    let preserved = "    preserve_host: true\n    strip_path: false\n";
    kit.gateway
        .reload(&file(
            &format!("http://localhost:{port}/base/"),
            "",
            preserved,
        ))
        .unwrap();
    assert_eq!(kit.get("/r").await.body, "t-a");
    let head = target.last_head();
    assert!(head.starts_with("GET /base/r HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nhost: shop\r\n"), "{head}");
    let named = upstream(&[(&target, 1)], "  host_header: inside.example\n");
    kit.gateway.reload(&file("http://u", "", &named)).unwrap();
    kit.get("/r").await;
    assert!(target.last_head().contains("\r\nhost: inside.example\r\n"));
}

#[tokio::test]
async fn targets_take_turns_by_their_weight() {
    let (a, b, c) = (
        Target::start("t-a").await,
        Target::start("t-b").await,
        Target::start("t-c").await,
    );
    let several = upstream(&[(&a, 10), (&b, 30), (&c, 0)], "");
    let kit = start(file("http://u", "", &several)).await;
    let shares = kit.shares(40, |_| String::new()).await;
    assert_eq!(shares, [("t-a".into(), 10), ("t-b".into(), 30)].into());
    // A connection is used again.
    assert_eq!(
        (a.connections(), b.connections(), c.connections()),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn the_one_with_less_to_do_gets_it() {
    let (a, b) = (Target::start("t-a").await, Target::start("t-b").await);
    let several = upstream(&[(&a, 1), (&b, 1)], "  algorithm: least-connections\n");
    let kit = start(file("http://u", "", &several)).await;
    a.does(Does::Hangs);
    // Some request hangs at the first; from then on all go to the second.
    let mut hanging = kit.connect().await;
    while a.requests() == 0 {
        hanging = kit.connect().await;
        hanging.write_all(GET.as_bytes()).await.unwrap();
        eventually(SOON, async || a.requests() + b.requests() > 0).await;
    }
    let shares = kit.shares(20, |_| String::new()).await;
    assert_eq!(shares, [("t-b".into(), 20)].into());
    // Who goes away has nothing to do there any more.
    assert_eq!(kit.gateway.upstreams()[0].targets[0].under_way, 1);
    drop(hanging);
    eventually(SOON, async || {
        kit.gateway.upstreams()[0].targets[0].under_way == 0
    })
    .await;
}

#[tokio::test]
async fn the_same_header_leads_to_the_same_target() {
    let (a, b) = (Target::start("t-a").await, Target::start("t-b").await);
    let hashed = "  algorithm: consistent-hashing\n  hash_on: header\n  hash_on_header: x-cart\n";
    let several = upstream(&[(&a, 1), (&b, 1)], hashed);
    let kit = start(file("http://u", "", &several)).await;
    // Where the targets stand depends on their ports: few carts may all be for one of them.
    for cart in 0..64 {
        let shares = kit.shares(3, |_| format!("x-cart: {cart}\r\n")).await;
        assert_eq!(shares.len(), 1, "{cart}");
    }
    assert!(a.requests() > 0 && b.requests() > 0);
    // Without it, in turn.
    assert_eq!(kit.shares(10, |_| String::new()).await.len(), 2);
}

#[tokio::test]
async fn who_has_nothing_to_be_hashed_by_gets_a_cookie() {
    let (a, b) = (Target::start("t-a").await, Target::start("t-b").await);
    let hashed = "  algorithm: consistent-hashing\n  hash_on: query_arg\n  hash_on_query_arg: cart\n  hash_fallback: cookie\n  hash_on_cookie: at\n  hash_on_cookie_path: /r\n";
    let several = upstream(&[(&a, 1), (&b, 1)], hashed);
    let kit = start(file("http://u", "", &several)).await;
    assert_eq!(kit.get("/r?cart=7").await.header("set-cookie"), None);
    for _ in 0..64 {
        let first = kit.get("/r").await;
        let cookie = first.header("set-cookie").unwrap();
        let (pair, path) = cookie.split_once("; ").unwrap();
        assert!(
            pair.starts_with("at=") && path.starts_with("Path=/r"),
            "{cookie}"
        );
        let again = kit
            .send("GET /r", &format!("cookie: x=1; {pair}\r\n"), "")
            .await;
        assert_eq!(again.header("set-cookie"), None);
        assert_eq!(again.body, first.body);
    }
    assert!(a.requests() > 0 && b.requests() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_dies_under_load_costs_no_request_and_comes_back() {
    let (mut a, b, c) = (
        Target::start("t-a").await,
        Target::start("t-b").await,
        Target::start("t-c").await,
    );
    let several = upstream(&[(&a, 1), (&b, 1), (&c, 1)], CHECKED);
    let kit = start(file("http://u", "", &several)).await;
    let load = Load::begin(&kit, 8, GET).await;
    load.more(60).await;
    assert!(a.requests() > 0);
    a.dies().await;
    eventually(SOON, async || kit.healthy() == [false, true, true]).await;
    load.more(60).await;
    a.lives_again().await;
    eventually(SOON, async || kit.healthy() == [true, true, true]).await;
    let before = a.requests();
    load.more(60).await;
    assert!(a.requests() > before);
    load.end().await;
}

#[tokio::test]
async fn who_fails_too_often_is_left_out_until_asking_it_goes_well() {
    let (a, b) = (Target::start("t-a").await, Target::start("t-b").await);
    let health = "  healthchecks:
    active: {http_path: /up, healthy: {successes: 2}, unhealthy: {interval: 0.02}}
    passive: {unhealthy: {http_failures: 2}}\n";
    let several = upstream(&[(&a, 1), (&b, 1)], health);
    let kit = start(file("http://u", "", &several)).await;
    a.does(Does::Answers(500));
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(kit.get("/r").await.status);
    }
    // An answer is an answer: it is not asked for again.
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 2);
    assert_eq!(kit.healthy(), [false, true]);
    a.does(Does::Answers(200));
    eventually(SOON, async || kit.healthy() == [true, true]).await;
    assert!(
        a.log
            .heads
            .lock()
            .iter()
            .any(|head| head.starts_with("GET /up "))
    );
}

#[tokio::test]
async fn without_anybody_healthy_there_is_no_answer() {
    let a = Target::start("t-a").await;
    let health = "  healthchecks: {passive: {unhealthy: {http_failures: 1}}}\n";
    let one = upstream(&[(&a, 1)], health);
    let kit = start(file("http://u", "", &one)).await;
    a.does(Does::Answers(503));
    assert_eq!(kit.get("/r").await.status, 503);
    kit.get("/r").await.is_problem(503, "upstream_unhealthy");
    assert_eq!(a.requests(), 1);
    let state = &kit.gateway.upstreams()[0];
    assert!(!state.is_healthy && state.is_checked);
    // None at all is the same.
    kit.gateway
        .reload(&file("http://u", "", "upstreams: [{name: u}]"))
        .unwrap();
    kit.get("/r").await.is_problem(503, "upstream_unhealthy");
}

#[tokio::test]
async fn what_stands_as_it_stood_keeps_its_health_and_connections() {
    let (a, b) = (Target::start("t-a").await, Target::start("t-b").await);
    let health = "  healthchecks: {passive: {unhealthy: {http_failures: 1}}}\n";
    let several = upstream(&[(&a, 1), (&b, 1)], health);
    let kit = start(file("http://u", "", &several)).await;
    a.does(Does::Answers(500));
    kit.get("/r").await;
    kit.get("/r").await;
    assert_eq!(kit.healthy(), [false, true]);
    for tags in ["", "  tags: [x]\n"] {
        // What changes around it changes nothing of it, nor do a target's weight and name elsewhere.
        kit.gateway
            .reload(&file("http://u", tags, &several))
            .unwrap();
        assert_eq!(kit.healthy(), [false, true]);
    }
    let heavier = upstream(&[(&a, 1), (&b, 5)], health);
    kit.gateway.reload(&file("http://u", "", &heavier)).unwrap();
    assert_eq!(kit.healthy(), [false, true]);
    assert_eq!(kit.get("/r").await.body, "t-b");
    assert_eq!((a.connections(), b.connections()), (1, 1));
    // Without checks nobody is unhealthy.
    kit.gateway
        .reload(&file("http://u", "", &upstream(&[(&a, 1), (&b, 1)], "")))
        .unwrap();
    assert_eq!(kit.healthy(), [true, true]);
}

#[tokio::test]
async fn who_is_gone_is_asked_no_more() {
    let (a, b) = (Target::start("t-a").await, Target::start("t-b").await);
    let kit = start(file("http://u", "", &upstream(&[(&a, 1)], CHECKED))).await;
    eventually(SOON, async || a.requests() > 2).await;
    // Somebody still reads an answer that it gave.
    a.does(Does::Pauses);
    let mut reader = kit.connect().await;
    reader.write_all(GET.as_bytes()).await.unwrap();
    read_until(&mut reader, "half").await;
    kit.gateway
        .reload(&file("http://u", "", &upstream(&[(&b, 1)], CHECKED)))
        .unwrap();
    eventually(SOON, async || b.requests() > 0).await;
    let (before, asked) = (a.requests(), b.requests());
    eventually(SOON, async || b.requests() > asked + 5).await;
    assert!(a.requests() <= before + 1, "one may have been on its way");
}

#[tokio::test]
async fn who_serves_no_more_asks_no_more() {
    let (a, b) = (Target::start("t-a").await, Target::start("t-b").await);
    let mut kit = start(file("http://u", "", &upstream(&[(&a, 1)], CHECKED))).await;
    let other = start(file("http://u", "", &upstream(&[(&b, 1)], CHECKED))).await;
    eventually(SOON, async || a.requests() > 2).await;
    kit.begin_stop();
    kit.stopped().await;
    let (before, asked) = (a.requests(), b.requests());
    eventually(SOON, async || b.requests() > asked + 5).await;
    assert!(a.requests() <= before + 1, "one may have been on its way");
    drop((kit, other));
}

#[tokio::test]
async fn no_more_are_asked_at_once_than_the_file_says() {
    let mut targets = Vec::new();
    for name in ["t-a", "t-b", "t-c", "t-d", "t-e"] {
        let target = Target::start(name).await;
        target.does(Does::Hangs);
        targets.push(target);
    }
    let weighed: Vec<_> = targets.iter().map(|target| (target, 1)).collect();
    let health = "  healthchecks: {active: {concurrency: 2, timeout: 0.05, healthy: {interval: 0.02}, unhealthy: {interval: 0.02, timeouts: 1}}}\n";
    let kit = start(file("http://u", "", &upstream(&weighed, health))).await;
    eventually(SOON, async || {
        let open = targets.iter().map(|target| target.log.open.load(Relaxed));
        let open: usize = open.sum();
        // Two that are given up may not have heard of it yet.
        assert!(open <= 4, "{open}");
        targets.iter().all(|target| target.requests() >= 2)
    })
    .await;
    assert_eq!(kit.healthy(), [false; 5]);
}

#[tokio::test]
async fn a_request_that_nobody_got_is_sent_elsewhere() {
    let (mut a, b) = (Target::start("t-a").await, Target::start("t-b").await);
    a.dies().await;
    let several = upstream(&[(&a, 9), (&b, 1)], "");
    let kit = start(file("http://u", "", &several)).await;
    for _ in 0..10 {
        assert_eq!(kit.send("POST /r", "", "body").await.body, "t-b");
    }
    assert_eq!(b.requests(), 10);
    kit.gateway
        .reload(&file("http://u", "  retries: 0\n", &several))
        .unwrap();
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(kit.send("POST /r", "", "body").await.status);
    }
    assert!(statuses.contains(&502), "{statuses:?}");
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_twice() {
    let (a, b) = (Target::start("t-a").await, Target::start("t-b").await);
    a.does(Does::Closes);
    b.does(Does::Closes);
    let several = upstream(&[(&a, 1), (&b, 1)], "");
    let kit = start(file("http://u", "", &several)).await;
    let total = || a.requests() + b.requests();
    for (line, body) in [
        ("POST /r", ""),
        ("POST /r", "body"),
        ("PUT /r", "body"),
        ("PATCH /r", ""),
    ] {
        let before = total();
        let answer = kit.send(line, "", body).await;
        answer.is_problem(502, "upstream_unreachable");
        assert_eq!(total(), before + 1, "{line} {body:?}");
    }
    // What does no harm is tried as often as the file says, and at another target first.
    let before = (a.requests(), b.requests());
    kit.get("/r").await.is_problem(502, "upstream_unreachable");
    assert_eq!((a.requests() - before.0, b.requests() - before.1), (3, 3));
    b.does(Does::Answers(200));
    assert_eq!(
        kit.shares(10, |_| String::new()).await,
        [("t-b".into(), 10)].into()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_closed_every_twenty_requests_lose_nothing() {
    let a = Target::start("t-a").await;
    let url = format!("http://{}", a.at);
    let kit = start(file(&url, "  retries: 0\n", "")).await;
    // Where nobody is told, a request may be on its way already: then only what does no harm can be sent again.
    for (request, tells) in [(GET, false), (GET, true), (POST, true)] {
        a.closes_after(20, tells);
        let load = Load::begin(&kit, 4, request).await;
        load.more(400).await;
        load.end().await;
    }
    assert!(a.connections() >= 40, "{}", a.connections());
}

#[tokio::test]
async fn a_kept_connection_that_was_being_closed_is_nobodys_fault() {
    let a = Target::start("t-a").await;
    let health = "  healthchecks: {passive: {unhealthy: {tcp_failures: 1}}}\n";
    let one = upstream(&[(&a, 1)], health);
    let kit = start(file("http://u", "  retries: 0\n", &one)).await;
    a.does(Does::AnswersOnce);
    for _ in 0..5 {
        assert_eq!(kit.get("/r").await.body, "t-a");
    }
    assert_eq!((a.connections(), a.requests()), (5, 9));
    // What may have been done is not sent again.
    kit.send("POST /r", "", "body")
        .await
        .is_problem(502, "upstream_unreachable");
    assert_eq!(a.requests(), 10);
    assert_eq!(kit.healthy(), [true]);
}

#[tokio::test]
async fn an_address_of_version_6_is_an_address() {
    let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else {
        // A machine without it.
        return;
    };
    let at = listener.local_addr().unwrap();
    let target = Target::serving("t-a", listener, None);
    let health = "  healthchecks: {active: {type: tcp, healthy: {interval: 0.02, successes: 1}, unhealthy: {interval: 0.02, tcp_failures: 1}}}\n";
    let kit = start(file("http://u", "", &upstream(&[(&target, 1)], health))).await;
    assert_eq!(kit.get("/r").await.body, "t-a");
    assert!(
        target
            .last_head()
            .contains(&format!("\r\nhost: [::1]:{}\r\n", at.port()))
    );
    // It was asked, and it is well.
    eventually(SOON, async || target.connections() > 3).await;
    assert_eq!(kit.healthy(), [true]);
    kit.gateway
        .reload(&file(&format!("http://[::1]:{}", at.port()), "", ""))
        .unwrap();
    assert_eq!(kit.get("/r").await.body, "t-a");
}
