//! The same odd requests to the gateway and to nginx: what each of them answers, and what a service gets of them.
//!
//! Where the two differ, the difference stands in [`differences::ALL`] with its reason, and in `docs/http-handling.md`. A
//! difference that stands nowhere fails, and so does one that stands there and is none.

mod corpus;
mod differences;
mod recorder;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use trunkline_gateway::{Limits, Route};
use trunkline_testkit::nginx;

use self::recorder::Recorder;
use crate::kit::{config, start_at};

/// How long both wait for the rest of a request, and for the next one.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a proxy answers.
async fn answered(proxy: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    // One that is refused early may not be read to its end.
    drop(stream.write_all(bytes).await);
    let mut said = Vec::new();
    let read = tokio::time::timeout(PATIENCE * 4, stream.read_to_end(&mut said)).await;
    // A reset after the answer is an end too.
    let end = match read.map(drop) {
        Ok(()) => "",
        Err(_) => " and hangs",
    };
    answers(&String::from_utf8_lossy(&said)) + end
}

/// The statuses, and whether the connection was kept after the last one.
fn answers(said: &str) -> String {
    let mut answers = Vec::new();
    let mut is_kept = false;
    for part in said.split("HTTP/1.").skip(1) {
        let head = part.split("\r\n\r\n").next().unwrap_or_default();
        let head = head.to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap_or("?");
        answers.push(status.get(..3).unwrap_or(status).to_owned());
        is_kept = match head.starts_with('0') {
            true => head.contains("connection: keep-alive"),
            false => !head.contains("connection: close"),
        };
    }
    if answers.is_empty() {
        let what = if said.is_empty() {
            "closed"
        } else {
            "bare answer"
        };
        return what.to_owned();
    }
    let end = if is_kept { "kept" } else { "closed" };
    format!("{} {end}", answers.join(" "))
}

const NGINX: &str = r#"
map $http_upgrade $asked { default upgrade; '' ''; }
client_header_timeout 1s;
client_body_timeout 1s;
keepalive_timeout 1s;
lingering_time 1s;
lingering_timeout 1s;
large_client_header_buffers 4 16k;
server {
    listen 127.0.0.1:{port};
    location / {
        proxy_http_version 1.1;
        proxy_request_buffering off;
        proxy_next_upstream off;
        proxy_set_header Connection $asked;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_pass http://{service};
    }
}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_requests_are_taken_as_nginx_takes_them_or_it_is_said_why_not() {
    let (behind_us, behind_nginx) = (Recorder::start().await, Recorder::start().await);
    let mut limits = Limits::default();
    limits.head_within = PATIENCE;
    limits.body_idle_max = PATIENCE;
    let routes = config([Route::new("all", "/").keep_path()]);
    let kit = start_at(routes, behind_us.address, limits).await;
    let nginx = NGINX.replace("{service}", &behind_nginx.address.to_string());
    let nginx = tokio::task::spawn_blocking(move || nginx::Server::start(&nginx));
    let nginx = nginx.await.unwrap();

    let mut all = JoinSet::new();
    let places = Arc::new(Semaphore::new(24));
    for (name, bytes) in corpus::all() {
        let place = places.clone().acquire_owned().await.unwrap();
        let (us, nginx) = (kit.address, nginx.address());
        all.spawn(async move {
            let both = (answered(us, &bytes), answered(nginx, &bytes));
            let (ours, nginxs) = tokio::join!(both.0, both.1);
            drop(place);
            (name, (ours, nginxs))
        });
    }
    let answers: BTreeMap<&str, (String, String)> = all.join_all().await.into_iter().collect();
    assert_eq!(
        answers.len(),
        corpus::all().len(),
        "each has a name of its own"
    );
    // A service may learn a moment later that a request was broken off.
    let mut wrong = Vec::new();
    let right = async || {
        let all = answers.iter().map(|(name, (ours, nginxs))| {
            let ours = format!("{ours}; {}", behind_us.got(name));
            let nginxs = format!("{nginxs}; {}", behind_nginx.got(name));
            (*name, (ours, nginxs))
        });
        wrong = wrongs(&all.collect());
        wrong.is_empty()
    };
    let waited = tokio::time::timeout(PATIENCE * 2, until(right)).await;
    assert!(waited.is_ok(), "{}", wrong.join("\n"));
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    while !holds().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Differences that are not told of, and what is told of that is none.
fn wrongs(all: &BTreeMap<&str, (String, String)>) -> Vec<String> {
    let told = differences::ALL.iter().map(|told| (told.name, told));
    let told: BTreeMap<_, _> = told.collect();
    let mut wrong = Vec::new();
    for (name, (ours, nginxs)) in all {
        match told.get(name) {
            Some(told) if ours == nginxs => {
                wrong.push(format!(
                    "{name}: no difference ({ours}), and yet: {}",
                    told.why
                ));
            }
            Some(told) if told.ours != ours || told.nginx != nginxs => wrong.push(format!(
                "{name}:\n  ours:  {ours}\n  told:  {}\n  nginx: {nginxs}\n  told:  {}",
                told.ours, told.nginx
            )),
            None if ours != nginxs => {
                wrong.push(format!("{name}:\n  ours:  {ours}\n  nginx: {nginxs}"));
            }
            _ => {}
        }
    }
    let unknown = told.keys().filter(|name| !all.contains_key(**name));
    wrong.extend(unknown.map(|name| format!("{name}: there is no such request")));
    wrong
}

#[test]
fn the_differences_stand_in_the_documentation() {
    let page = include_str!("../../../../docs/http-handling.md");
    let missing: Vec<String> = differences::ALL
        .iter()
        .map(differences::Difference::row)
        .filter(|row| !page.contains(row.as_str()))
        .collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    let rows = page.lines().filter(|line| line.starts_with("| ")).count();
    assert_eq!(rows, differences::ALL.len() + 1, "a row too many");
}
