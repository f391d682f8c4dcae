//! Restate's server with a handler in Rust, as children of this process.
//!
//! `--restate-server` names its program (`npm i @restatedev/restate-server` brings it), `--restate-worker` the program of the
//! handler: started with `worker --addr HOST:PORT` it serves `Order/place`, which takes `{"id", "fail"}` and answers
//! `{"status"}`, `confirmed` or `compensated`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;
use trunkline_benches::Args;

use crate::load::Way;

/// Where everything listens, on 127.0.0.1.
const INGRESS: u16 = 18_080;
const ADMIN: u16 = 19_070;
const NODE: u16 = 15_122;
const WORKER: u16 = 15_501;

/// How long its server may take to start.
const START_WITHIN: Duration = Duration::from_secs(60);

/// What runs.
pub(crate) struct Restate {
    children: Mutex<Vec<Child>>,
    client: reqwest::Client,
}

#[derive(Deserialize)]
struct Done {
    status: String,
}

impl Restate {
    pub(crate) async fn start(args: &Args, folder: &Path) -> Self {
        let config = folder.join("restate.toml");
        // Its defaults, which sync what they write; names, places and ports are set, and that it tells nobody.
        let text = format!(
            "cluster-name = \"bench\"\nnode-name = \"n1\"\nbase-dir = \"{}\"\nbind-ip = \"127.0.0.1\"\n\
             bind-port = {NODE}\nlisten-mode = \"tcp\"\nadvertised-host = \"127.0.0.1\"\n\
             disable-telemetry = true\nlog-filter = \"warn\"\n\
             [admin]\nbind-port = {ADMIN}\n[ingress]\nbind-port = {INGRESS}\n",
            folder.join("restate").display()
        );
        std::fs::write(&config, text).expect("its configuration");
        let server = args.text("restate-server", "restate-server");
        let worker = args.text("restate-worker", "sagabench");
        let client = reqwest::Client::builder().tcp_nodelay(true).no_proxy();
        let started = Self {
            children: Mutex::default(),
            client: client.build().expect("a client"),
        };
        let config = config.display().to_string();
        started.child(&server, &["--no-logo", "-c", &config], folder);
        started.child(
            &worker,
            &["worker", "--addr", &format!("127.0.0.1:{WORKER}")],
            folder,
        );
        for port in [INGRESS, ADMIN, WORKER] {
            listens(port).await;
        }
        started.register().await;
        started
    }

    fn child(&self, program: &str, args: &[&str], folder: &Path) {
        let log = folder.join(format!("{}.log", self.children.lock().len()));
        let log = std::fs::File::create(log).expect("its log");
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("its log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{program} does not start: {error}"));
        self.children.lock().push(child);
    }

    /// The server finds the handler.
    async fn register(&self) {
        let place = format!("http://127.0.0.1:{ADMIN}/deployments");
        let what = json!({ "uri": format!("http://127.0.0.1:{WORKER}"), "force": true });
        let begun = Instant::now();
        loop {
            let answer = self.client.post(&place).json(&what).send().await;
            match answer {
                Ok(answer) if answer.status().is_success() => return,
                other => assert!(begun.elapsed() < START_WITHIN, "not registered: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn listens(port: u16) {
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(begun.elapsed() < START_WITHIN, "port {port} never opened");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Way for Restate {
    fn order(&self, n: u64, fails: bool) -> BoxFuture<'_, bool> {
        let place = format!("http://127.0.0.1:{INGRESS}/Order/place");
        let order = json!({ "id": format!("ord-{n:010}"), "fail": fails });
        async move {
            let answer = self.client.post(place).json(&order).send().await;
            let done: Done = answer.expect("an answer").json().await.expect("a status");
            match done.status.as_str() {
                "confirmed" => true,
                "compensated" => false,
                other => panic!("an order was {other}"),
            }
        }
        .boxed()
    }

    fn pids(&self) -> Vec<u32> {
        self.children.lock().iter().map(Child::id).collect()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        end(&mut self.children.lock());
        async {}.boxed()
    }
}

impl Drop for Restate {
    fn drop(&mut self) {
        end(&mut self.children.lock());
    }
}

fn end(children: &mut Vec<Child>) {
    for mut child in children.drain(..) {
        child.kill().ok();
        child.wait().ok();
    }
}
