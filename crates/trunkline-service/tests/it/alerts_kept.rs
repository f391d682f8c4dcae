//! No alert is lost: it is written with what it tells of, and stays until the webhook has it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use trunkline_core::Env;
use trunkline_service::{Config, Running};
use trunkline_store::Store;
use trunkline_testkit::postgres::Postgres;
use trunkline_testkit::{Child, eventually};

use crate::alerts::pottery;
use crate::sample::{Ask, SOON, config};

/// This test, as the harness names it.
const NAME: &str = "alerts_kept::an_alert_outlives_the_process_that_is_killed_before_it_is_told";
/// Tell the child where its data is, whom it is to alert, and whether it throws a pot first.
const FOLDER: &str = "TRUNKLINE_ALERTS_FOLDER";
const URL: &str = "TRUNKLINE_ALERTS_URL";
const THROWS: &str = "TRUNKLINE_ALERTS_THROWS";

/// How a webhook behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Takes,
    Fails,
    /// Answers nobody.
    Hangs,
}

/// A webhook.
struct Sink {
    url: String,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<AtomicUsize>,
    told: Arc<Mutex<Vec<Value>>>,
    _server: JoinSet<()>,
}

impl Sink {
    async fn start(mood: Mood) -> Self {
        let mood = Arc::new(Mutex::new(mood));
        let (asked, told) = (
            Arc::<AtomicUsize>::default(),
            Arc::<Mutex<Vec<_>>>::default(),
        );
        let state = (mood.clone(), asked.clone(), told.clone());
        let take = move |Json(alert): Json<Value>| {
            let (mood, asked, told) = state.clone();
            async move {
                asked.fetch_add(1, Ordering::SeqCst);
                let mood = *mood.lock();
                match mood {
                    Mood::Hangs => std::future::pending().await,
                    Mood::Fails => StatusCode::SERVICE_UNAVAILABLE,
                    Mood::Takes => {
                        told.lock().push(alert);
                        StatusCode::OK
                    }
                }
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/alerts", listener.local_addr().unwrap());
        let router = Router::new().route("/alerts", post(take));
        let mut server = JoinSet::new();
        let never = std::future::pending();
        server.spawn(trunkline_call::server::serve(listener, router, never));
        Self {
            url,
            mood,
            asked,
            told,
            _server: server,
        }
    }

    fn becomes(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// How many letters were told of.
    fn letters(&self) -> u64 {
        let told = self.told.lock();
        let counts = told
            .iter()
            .map(|alert| alert["count"].as_u64().unwrap_or(1));
        counts.sum()
    }
}

async fn start(name: &'static str, folder: &Path, set: impl FnOnce(&mut Config)) -> Running {
    let mut config = config(folder);
    set(&mut config);
    pottery(name, false).start(config).await.unwrap()
}

async fn throws(running: &Running, name: &'static str, pot: &str) {
    let ask = Ask::new(running.network().clone(), name);
    let answer = ask.post("/throw", json!(pot)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// The child: runs until it is killed.
async fn be_the_pottery(folder: &Path) {
    let url = std::env::var(URL).unwrap();
    let running = start("kiln-d", folder, |config| config.alerts.webhook = Some(url)).await;
    if std::env::var(THROWS).is_ok() {
        throws(&running, "kiln-d", "bowl").await;
    }
    std::future::pending::<()>().await;
}

fn spawn(folder: &Path, sink: &Sink) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([NAME, "--exact"])
        .env(FOLDER, folder)
        .env(URL, &sink.url)
        .stdout(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_outlives_the_process_that_is_killed_before_it_is_told() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return be_the_pottery(Path::new(&folder)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start(Mood::Hangs).await;
    let mut child = Child::spawn(spawn(folder.path(), &sink).env(THROWS, "1")).unwrap();
    // The letter is committed, and its alert is on its way.
    eventually(SOON, async || sink.asked() > 0).await;
    let status = child.kill().unwrap();
    assert!(Child::was_killed(status), "{status}");
    assert_eq!(sink.letters(), 0);

    sink.becomes(Mood::Takes);
    let _child = Child::spawn(&mut spawn(folder.path(), &sink)).unwrap();
    eventually(SOON, async || sink.letters() == 1).await;
    let told = sink.told.lock().remove(0);
    assert_eq!(
        (&told["alert"], &told["key"], &told["code"]),
        (&json!("dead_letter"), &json!("bowl"), &json!("kiln_cold"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_letters_is_few_calls_and_all_are_told() {
    const LETTERS: u64 = 300;
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start(Mood::Fails).await;
    let webhook = Some(sink.url.clone());
    let alerting = |config: &mut Config| config.alerts.webhook = webhook;
    let running = start("kiln-e", folder.path(), alerting).await;
    for pot in 0..LETTERS {
        throws(&running, "kiln-e", &format!("pot {pot}")).await;
    }
    let path = folder.path().join("data/kiln-e.db");
    let url = format!("sqlite:{}", path.display());
    let store = Store::open(&url, "kiln-e", Env::system()).await.unwrap();
    let waiting = async || store.alerts().waiting().await.unwrap().len();
    eventually(SOON, async || waiting().await as u64 == LETTERS).await;
    let failed = sink.asked();
    sink.becomes(Mood::Takes);
    eventually(SOON, async || waiting().await == 0).await;
    assert_eq!(sink.letters(), LETTERS, "each once");
    assert_eq!(sink.asked() - failed, 1);
    let told = sink.told.lock().remove(0);
    assert_eq!(
        (&told["alert"], &told["of"], &told["about"]),
        (&json!("many"), &json!("dead_letter"), &json!("kiln-e"))
    );
    let first = told["first"]["key"].as_str().unwrap();
    assert!(first.starts_with("pot "), "{first}");
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_one_tells() {
    const LETTERS: usize = 12;
    let server = Postgres::shared();
    let url = format!("{}&schema={{service}}", server.url("postgres"));
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let sink = Sink::start(Mood::Takes).await;
    let mut replicas = Vec::new();
    for folder in &folders {
        let (url, webhook) = (url.clone(), sink.url.clone());
        let running = start("kiln-f", folder.path(), |config| {
            config.store = url;
            config.alerts.webhook = Some(webhook);
        });
        replicas.push(running.await);
    }
    for pot in 0..LETTERS {
        let (one, other) = (format!("cup {pot}"), format!("jug {pot}"));
        tokio::join!(
            throws(&replicas[0], "kiln-f", &one),
            throws(&replicas[1], "kiln-f", &other)
        );
    }
    let url = url.replace("{service}", "kiln-f");
    let store = Store::open(&url, "kiln-f", Env::system()).await.unwrap();
    eventually(SOON, async || sink.letters() >= 2 * LETTERS as u64).await;
    let all_sent = async || store.alerts().waiting().await.unwrap().is_empty();
    eventually(SOON, all_sent).await;
    assert_eq!(sink.letters(), 2 * LETTERS as u64, "each once");

    // One dies with its alert untold; the other tells it.
    sink.becomes(Mood::Hangs);
    let asked = sink.asked();
    throws(&replicas[0], "kiln-f", "vase").await;
    eventually(SOON, async || sink.asked() > asked).await;
    drop(replicas.remove(0));
    sink.becomes(Mood::Takes);
    let is_told = |alert: &Value| alert["key"] == "vase";
    eventually(SOON, async || sink.told.lock().iter().any(is_told)).await;
    for running in replicas {
        running.shutdown().await;
    }
}
