//! A store whose services run in processes of their own, as `storefront up --processes` starts them.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hyper::Method;
use trunkline_testkit::{Child, eventually, free_port};

use crate::collector::Collector;
use trunkline_testkit::http::Caller;

/// Eleven processes begin, on a machine that does other things too.
const UP: Duration = Duration::from_secs(60);

pub(crate) struct Apart {
    /// The gateway's URL, and the admin API's.
    pub(crate) addresses: [String; 2],
    pub(crate) provider: String,
    store: Child,
    _sandbox: Child,
    collector: Collector,
}

impl Apart {
    pub(crate) async fn start(folder: &Path, config: &str) -> Self {
        let collector = Collector::start().await;
        let file = folder.join("trunkline.toml");
        let telemetry = format!("[telemetry]\notlp = \"{}\"\n", collector.url);
        std::fs::write(&file, format!("{config}{telemetry}")).unwrap();
        let places = [(); 3].map(|()| format!("127.0.0.1:{}", free_port().unwrap()));
        let [gateway, admin, provider] = &places;
        let mut sandbox = command();
        sandbox.args(["sandbox", "--late-ms", "800", "--listen", provider]);
        sandbox.stdout(Stdio::null());
        let sandbox = Child::spawn(&mut sandbox).unwrap();
        let log = File::create(folder.join("store.log")).unwrap();
        let mut store = command();
        store.args([
            "up",
            "--processes",
            "--quiet",
            "--gateway",
            gateway,
            "--admin",
            admin,
        ]);
        store.args(["--provider", &format!("http://{provider}")]);
        store.arg("--data").arg(folder.join("data"));
        store.arg("--config").arg(&file);
        store.stdout(log.try_clone().unwrap()).stderr(log);
        let store = Child::spawn(&mut store).unwrap();
        let started = Self {
            addresses: [gateway, admin].map(|place| format!("http://{place}")),
            provider: format!("http://{provider}"),
            store,
            _sandbox: sandbox,
            collector,
        };
        let admin = Caller::new(started.addresses[1].clone());
        eventually(UP, async || {
            let health = admin.try_send(Method::GET, "/health", None).await;
            health.is_ok_and(|answer| answer.status == 200)
        })
        .await;
        started
    }

    /// Asks it to end, as Ctrl-C does, and waits for all of it.
    pub(crate) async fn stop(mut self) -> Collector {
        self.store.terminate().unwrap();
        let ended = tokio::task::spawn_blocking(move || self.store.process().wait().unwrap());
        let status = ended.await.unwrap();
        assert!(status.success(), "the store did not end well: {status}");
        self.collector
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_storefront"))
}

/// The process of a part of a store whose parts `parent` has started, if it runs now.
pub(crate) fn process_of(parent: u32, part: &str) -> Option<i32> {
    let parent = format!(" {parent} ");
    let processes = std::fs::read_dir("/proc").unwrap();
    let ids = processes.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let mut found = ids.filter(|id: &i32| {
        let read = |name| std::fs::read_to_string(format!("/proc/{id}/{name}")).unwrap_or_default();
        let stat = read("stat");
        // After the name in parentheses: the state, and the parent.
        let is_child = stat.rsplit(')').next().is_some_and(|rest| {
            let rest = rest.get(2..).unwrap_or_default();
            rest.starts_with(&parent)
        });
        is_child && read("cmdline").contains(&format!("\0run\0{part}\0"))
    });
    found.next()
}
