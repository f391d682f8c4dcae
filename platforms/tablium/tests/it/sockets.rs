//! Browsers of a test: the official client of Socket.IO, moved from here.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use std::sync::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, oneshot};
use trunkline_testkit::{eventually_or, node};

use crate::world::SOON;

type Waiting = Mutex<HashMap<u64, oneshot::Sender<Value>>>;
type Heard = Mutex<HashMap<String, Vec<(String, Value)>>>;

/// All browsers of a test.
#[derive(Clone)]
pub(crate) struct Browsers(Arc<Inner>);

struct Inner {
    commands: mpsc::Sender<String>,
    waiting: Arc<Waiting>,
    heard: Arc<Heard>,
    next: AtomicU64,
    _child: Child,
}

/// One of them.
#[derive(Clone)]
pub(crate) struct Browser {
    pub(crate) name: String,
    all: Browsers,
}

impl Browsers {
    pub(crate) fn start() -> Self {
        let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/puppet.cjs"));
        let mut command = Command::from(node::script(file));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let (waiting, heard) = (Arc::<Waiting>::default(), Arc::<Heard>::default());
        let (commands, queue) = mpsc::channel(1_000);
        tokio::spawn(write(child.stdin.take().unwrap(), queue));
        let out = BufReader::new(child.stdout.take().unwrap());
        let (to_waiting, to_heard) = (waiting.clone(), heard.clone());
        tokio::spawn(async move {
            let mut lines = out.lines();
            while let Some(line) = lines.next_line().await.unwrap() {
                note(serde_json::from_str(&line).unwrap(), &to_waiting, &to_heard);
            }
        });
        Self(Arc::new(Inner {
            commands,
            waiting,
            heard,
            next: AtomicU64::new(1),
            _child: child,
        }))
    }

    /// Has something done; what it gives, or `{failed}`.
    pub(crate) async fn act(&self, action: &str, mut what: Value) -> Value {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.0.waiting.lock().unwrap().insert(id, answer);
        what["id"] = json!(id);
        what["action"] = json!(action);
        self.0.commands.send(format!("{what}\n")).await.unwrap();
        let mut said = answered.await.unwrap();
        match said.get("answer") {
            Some(_) => said["answer"].take(),
            None => json!({ "failed": said["failed"].take() }),
        }
    }

    /// Opens a browser, which has yet to be let in.
    pub(crate) async fn open(&self, name: &str, url: &str, token: &str) -> Browser {
        self.act(
            "connect",
            json!({ "name": name, "url": url, "token": token }),
        )
        .await;
        Browser {
            name: name.to_owned(),
            all: self.clone(),
        }
    }
}

async fn write(mut stdin: ChildStdin, mut queue: mpsc::Receiver<String>) {
    while let Some(line) = queue.recv().await {
        if stdin.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn note(mut line: Value, waiting: &Waiting, heard: &Heard) {
    if let Some(id) = line["id"].as_u64() {
        if let Some(answer) = waiting.lock().unwrap().remove(&id) {
            let _ = answer.send(line);
        }
        return;
    }
    let name = line["name"].as_str().unwrap().to_owned();
    let event = line["event"].as_str().unwrap().to_owned();
    let mut heard = heard.lock().unwrap();
    heard
        .entry(name)
        .or_default()
        .push((event, line["data"].take()));
}

impl Browser {
    /// Sends an event and waits for its acknowledgement.
    pub(crate) async fn ask(&self, event: &str, data: Value) -> Value {
        let what = json!({ "name": self.name, "event": event, "data": data });
        self.all.act("ask", what).await
    }

    /// The same, which must not be refused.
    #[track_caller]
    pub(crate) fn does(&self, event: &str, data: Value) -> impl Future<Output = Value> {
        let what = format!("{} {event} {data}", self.name);
        async move {
            let answer = self.ask(event, data).await;
            let went_well = answer.get("error").is_none() && answer.get("failed").is_none();
            assert!(went_well, "{what}: {answer}");
            answer
        }
    }

    /// The code with which it is refused.
    pub(crate) async fn refused(&self, event: &str, data: Value) -> String {
        let answer = self.ask(event, data).await;
        answer["error"]["code"]
            .as_str()
            .unwrap_or_else(|| panic!("{answer}"))
            .to_owned()
    }

    /// Has something else done with it.
    pub(crate) async fn act(&self, action: &str, mut what: Value) -> Value {
        what["name"] = json!(self.name);
        self.all.act(action, what).await
    }

    /// What it has heard of this event, the first first.
    pub(crate) fn heard(&self, event: &str) -> Vec<Value> {
        let all = self.all.0.heard.lock().unwrap();
        let mine = all.get(&self.name).into_iter().flatten();
        let of = mine.filter(|(heard, _)| heard == event);
        of.map(|(_, data)| data.clone()).collect()
    }

    /// Waits until it has heard something of this event that is as it should be; that.
    pub(crate) async fn hears(&self, event: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let found = || self.heard(event).into_iter().find(&fits);
        let why = || format!("{} heard of {event}: {:?}", self.name, self.heard(event));
        eventually_or(SOON, async || found().is_some(), why).await;
        found().unwrap()
    }

    /// Waits until it is let in so many times.
    pub(crate) async fn is_up(&self, times: usize) {
        let why = || format!("{}: {:?}", self.name, self.heard("refused"));
        eventually_or(SOON, async || self.heard("up").len() >= times, why).await;
    }
}
