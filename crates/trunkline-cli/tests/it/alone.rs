//! `trunkline gateway --config` as its own process: what it says, what it keeps, and how it ends.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use trunkline_gateway::Config;
use trunkline_testkit::{Child, eventually};

use crate::kit::run;

const SOON: Duration = Duration::from_secs(30);
const TOKEN: &str = "a-token-of-length";

/// A service that says `here` and what path it got.
async fn service() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let say = async |uri: axum::http::Uri| format!("here {}", uri.path());
    let mut server = JoinSet::new();
    let router = Router::new().fallback(say);
    server.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (at, server)
}

fn file(service: SocketAddr) -> String {
    format!(
        "_format_version: \"3.0\"\nservices:\n- name: echo\n  url: http://{service}\n  routes:\n  - {{name: first, paths: [/first], strip_path: false}}\n"
    )
}

/// The command, with `--config` and ports of its own.
struct Process {
    child: Child,
    gateway: SocketAddr,
    admin: SocketAddr,
}

impl Process {
    fn start(config: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
        command
            .args(["gateway", "--listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0", "--log", "error"])
            .arg("--config")
            .arg(config)
            .args(more)
            .env_remove("TRUNKLINE_ADMIN_TOKEN")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = Child::spawn(&mut command).unwrap();
        let out = child.process().stdout.take().unwrap();
        let mut lines = BufReader::new(out).lines();
        let mut address = |before: &str| {
            let line = lines.next().expect("it says where it is").unwrap();
            let address = line
                .strip_prefix(before)
                .unwrap_or_else(|| panic!("{line}"));
            address.parse().unwrap()
        };
        let gateway = address("gateway on http://");
        let admin = address("admin API on http://");
        Self {
            child,
            gateway,
            admin,
        }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        ask(self.gateway, &format!("GET {path}"), "", "")
            .await
            .unwrap()
    }

    async fn admin(&self, line: &str, body: &Value) -> (u16, String) {
        try_admin(self.admin, line, body).await.unwrap()
    }

    async fn ended(&mut self) -> ExitStatus {
        let mut ended = None;
        eventually(SOON, async || {
            ended = self.child.process().try_wait().unwrap();
            ended.is_some()
        })
        .await;
        ended.unwrap()
    }
}

async fn try_admin(at: SocketAddr, line: &str, body: &Value) -> std::io::Result<(u16, String)> {
    let headers = format!("authorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\n");
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    ask(at, line, &headers, &body).await
}

/// One request on a connection of its own: the status and the body.
async fn ask(
    at: SocketAddr,
    line: &str,
    headers: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(at).await?;
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let unfinished = || std::io::Error::other(format!("no answer: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(unfinished)?;
    let status = head.get(9..12).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(unfinished)?, body.to_owned()))
}

async fn folder() -> (TempDir, std::path::PathBuf, JoinSet<()>) {
    let (at, server) = service().await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("kong.yml");
    std::fs::write(&config, file(at)).unwrap();
    (folder, config, server)
}

#[tokio::test]
async fn it_serves_follows_its_file_and_is_changed_by_who_has_the_token() {
    let (_folder, config, _server) = folder().await;
    let mut process = Process::start(&config, &["--token", TOKEN]);
    assert_eq!(
        process.get("/first/x").await,
        (200, "here /first/x".to_owned())
    );
    assert_eq!(process.get("/second").await.0, 404);
    let before = std::fs::read_to_string(&config).unwrap();
    let more = format!("{before}  - {{name: second, paths: [/second], strip_path: false}}\n");
    std::fs::write(&config, &more).unwrap();
    eventually(SOON, async || process.get("/second").await.0 == 200).await;
    // One that is wrong changes nothing, and it is told.
    std::fs::write(&config, "services: [{nam: a}]").unwrap();
    let status = async || process.admin("GET /status", &Value::Null).await.1;
    eventually(SOON, async || status().await.contains("unknown field")).await;
    assert_eq!(process.get("/second").await.0, 200);
    std::fs::write(&config, &more).unwrap();
    eventually(SOON, async || !status().await.contains("unknown field")).await;
    let bare = ask(process.admin, "GET /routes", "", "").await.unwrap();
    assert_eq!(bare.0, 401, "{bare:?}");
    let third = json!({ "name": "third", "paths": ["/third"], "strip_path": false });
    let (made, told) = process.admin("POST /services/echo/routes", &third).await;
    assert_eq!(made, 201, "{told}");
    assert_eq!(process.get("/third").await.0, 200);
    assert_eq!(
        std::fs::read_to_string(&config).unwrap(),
        more,
        "it is not written back"
    );
    // Whoever balances it asks without a token.
    assert_eq!(
        ask(process.admin, "GET /health", "", "").await.unwrap().0,
        200
    );
    let (_, metrics) = process.admin("GET /metrics", &Value::Null).await;
    assert!(
        metrics.contains("trunkline_gateway_connections"),
        "{metrics}"
    );
    process.child.terminate().unwrap();
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn what_it_can_not_start_with_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("kong.yml");
    let path = config.to_str().unwrap();
    let start = async |listen: &str, admin: &str| {
        let listen = ["--listen", listen, "--admin-listen", admin];
        run(&[&["gateway", "--config", path], &listen[..]].concat()).await
    };
    let any = "127.0.0.1:0";
    std::fs::write(
        &config,
        "services:\n- name: a\n  retrys: 3\n  routes: [{name: r, paths: [x]}]\n",
    )
    .unwrap();
    let wrong = start(any, any).await;
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    for said in [
        "kong.yml:3:3: services[0].retrys",
        "kong.yml:4:30: services[0].routes[0].paths[0]",
    ] {
        assert!(wrong.err.contains(said), "{said}\n{}", wrong.err);
    }
    let (at, _server) = service().await;
    std::fs::write(&config, file(at)).unwrap();
    let taken = at.to_string();
    let busy = start(&taken, any).await;
    assert_eq!(busy.code, Some(1), "{busy:?}");
    assert!(
        busy.err.contains(&format!("{taken} can't be listened at")),
        "{}",
        busy.err
    );
    let busy = start(any, &taken).await;
    assert_eq!(busy.code, Some(1), "{busy:?}");
    assert!(
        busy.err.contains(&format!("{taken} can't be listened at")),
        "{}",
        busy.err
    );
    let open = start(any, "0.0.0.0:0").await;
    assert_eq!(open.code, Some(2), "{open:?}");
    assert!(open.err.contains("give it a --token"), "{}", open.err);
    std::fs::remove_file(&config).unwrap();
    let missing = start(any, any).await;
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(
        missing.err.contains("kong.yml can't be read"),
        "{}",
        missing.err
    );
}

/// How often the process is killed.
const KILLS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_in_the_file_whenever_it_is_killed() {
    let (_folder, config, _server) = folder().await;
    let mut made: Vec<String> = Vec::new();
    let (mut answered, mut cut) = (0, 0);
    for round in 0..KILLS {
        let mut process = Process::start(&config, &["--token", TOKEN, "--write-back"]);
        let mut clients = JoinSet::new();
        let answers = Arc::new(AtomicUsize::new(0));
        for client in 0..4 {
            let (admin, answers) = (process.admin, answers.clone());
            clients.spawn(async move {
                let mut made = Vec::new();
                for at in 0.. {
                    let name = format!("r{round}-{client}-{at}");
                    let body = json!({ "name": name, "paths": [format!("/{name}")] });
                    match try_admin(admin, "POST /services/echo/routes", &body).await {
                        Ok((201, _)) => {
                            made.push(name);
                            answers.fetch_add(1, Relaxed);
                        }
                        Ok(other) => panic!("{other:?}"),
                        Err(_) => break,
                    }
                }
                made
            });
        }
        // Another moment each time: after so many answers, wherever the next changes are then.
        let many = usize::from(RandomState::new().hash_one(round) as u8 % 48);
        eventually(SOON, async || answers.load(Relaxed) >= many).await;
        assert!(Child::was_killed(process.child.kill().unwrap()));
        for of_client in clients.join_all().await {
            cut += 1;
            made.extend(of_client);
        }
        answered = made.len();
        let (kept, _) = Config::open(&config).unwrap_or_else(|error| panic!("{round}: {error}"));
        let kept: Vec<&str> = kept.services[0]
            .routes
            .iter()
            .map(|route| &*route.name)
            .collect();
        let lost: Vec<_> = made
            .iter()
            .filter(|name| !kept.contains(&&***name))
            .collect();
        assert_eq!(lost, Vec::<&String>::new(), "round {round}");
        // What was cut off may be there, once for each client and kill.
        assert!(kept.len() <= 1 + answered + cut, "{kept:?}");
    }
    assert!(answered > KILLS, "{answered} were answered");
    let process = Process::start(&config, &["--token", TOKEN, "--write-back"]);
    let last = made.last().unwrap();
    assert_eq!(process.get(&format!("/{last}")).await.0, 200);
    println!("{KILLS} kills, {answered} answered, 0 lost");
}

const REQUEST: &[u8] = b"GET /first HTTP/1.1\r\nhost: shop\r\n\r\n";
const SAID: &str = "here /first";

/// Asks on kept connections until nobody listens any more.
async fn load(at: SocketAddr, answered: Arc<AtomicUsize>) -> Result<(), String> {
    while let Ok(mut stream) = TcpStream::connect(at).await {
        loop {
            // One that was closed before anything was sent on it is no loss.
            let mut one = [0; 1];
            match tokio::time::timeout(Duration::ZERO, stream.peek(&mut one)).await {
                Err(_) => {}
                Ok(Ok(0)) => break,
                Ok(other) => return Err(format!("unasked: {other:?}")),
            }
            stream
                .write_all(REQUEST)
                .await
                .map_err(|error| format!("sent: {error}"))?;
            let said = answer(&mut stream).await?;
            answered.fetch_add(1, Relaxed);
            if said.contains("connection: close") {
                break;
            }
        }
    }
    Ok(())
}

async fn answer(stream: &mut TcpStream) -> Result<String, String> {
    let (mut said, mut piece) = (String::new(), [0; 4096]);
    while !said.ends_with(SAID) {
        let read = stream
            .read(&mut piece)
            .await
            .map_err(|error| format!("read: {error}"))?;
        if read == 0 {
            return Err(format!("closed after {said:?}"));
        }
        said.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
    match said.starts_with("HTTP/1.1 200 ") {
        true => Ok(said.to_ascii_lowercase()),
        false => Err(said),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_fails_no_request_that_was_sent() {
    let (_folder, config, _server) = folder().await;
    for round in 0..5 {
        let mut process = Process::start(&config, &["--workers", "2"]);
        let answered = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..16 {
            clients.spawn(load(process.gateway, answered.clone()));
        }
        eventually(SOON, async || answered.load(Relaxed) > 1_000).await;
        process.child.terminate().unwrap();
        let failed: Vec<String> = clients
            .join_all()
            .await
            .into_iter()
            .filter_map(Result::err)
            .collect();
        assert_eq!(failed, Vec::<String>::new(), "round {round}");
        assert_eq!(process.ended().await.code(), Some(0), "round {round}");
        println!(
            "round {round}: {} answered, 0 failed",
            answered.load(Relaxed)
        );
    }
}
