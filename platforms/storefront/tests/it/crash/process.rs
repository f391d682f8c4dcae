//! The store and the payment provider as processes of their own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use storefront::order::OrderFlow;
use tempfile::TempDir;
use trunkline_testkit::{Child, Processes, free_port};

use crate::apart::process_of;
use crate::store::by;
use trunkline_testkit::http::Caller;

const CONFIG: &str = "\
[service.inventory-service]
reservation_ms = 30000

[service.payment-service]
timeout_ms = 400
ask_again_ms = 150
attempts_max = 5
";

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) gateway: Caller,
    pub(crate) admin: Caller,
    pub(crate) provider: Caller,
    addresses: [String; 3],
    /// Each service in a process of its own.
    apart: bool,
    processes: Processes,
    store: Option<Child>,
    _sandbox: Child,
}

impl World {
    /// Starts the provider; the store has yet to be started.
    pub(crate) fn new(flow: OrderFlow) -> Self {
        Self::with(&by(flow, CONFIG), false)
    }

    /// The same of a store whose services run in processes of their own, on this bus.
    pub(crate) fn apart(bus: &str) -> Self {
        Self::with(&format!("{bus}{CONFIG}"), true)
    }

    fn with(config: &str, apart: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let addresses = [(); 3].map(|()| format!("127.0.0.1:{}", free_port().unwrap()));
        let [gateway, admin, provider] = addresses
            .clone()
            .map(|at| Caller::new(format!("http://{at}")));
        // Whoever was killed is called again soon after it is back.
        let breakers = "\n[call.\"*\".breaker]\nreset_ms = 500\nrate_reset_ms = 500\n";
        let config = format!("{config}{breakers}");
        std::fs::write(folder.path().join("store.toml"), config).unwrap();
        let mut sandbox = command();
        sandbox.args([
            "sandbox",
            "--listen",
            &addresses[2],
            "--late-ms",
            "900",
            "--ledger",
        ]);
        sandbox
            .arg(folder.path().join("ledger.jsonl"))
            .stdout(Stdio::null());
        let sandbox = Child::spawn(&mut sandbox).unwrap();
        Self {
            processes: Processes::new(folder.path().join("store.log")),
            folder,
            gateway,
            admin,
            provider,
            addresses,
            apart,
            store: None,
            _sandbox: sandbox,
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn start(&mut self) {
        let mut store = command();
        store.arg("up");
        if self.apart {
            store.args(["--processes", "--quiet"]);
        }
        store.arg("--data").arg(self.data());
        store.args([
            "--gateway",
            &self.addresses[0],
            "--admin",
            &self.addresses[1],
        ]);
        store
            .arg("--config")
            .arg(self.folder.path().join("store.toml"));
        store.args(["--provider", &format!("http://{}", self.addresses[2])]);
        self.store = Some(self.processes.spawn(&mut store));
    }

    pub(crate) fn kill(&mut self) {
        let status = self.store.take().unwrap().kill().unwrap();
        assert!(
            Child::was_killed(status),
            "the store ended by itself: {status}\n{}",
            self.log()
        );
    }

    /// Kills one of its processes, if it runs at the moment; another takes its place.
    pub(crate) fn kill_part(&self, part: &str) {
        let Some(id) = process_of(self.store.as_ref().unwrap().id(), part) else {
            return;
        };
        let killed = Command::new("sh")
            .args(["-c", "kill -9 $0"])
            .arg(id.to_string())
            .status();
        // It may have ended meanwhile.
        assert!(killed.is_ok());
    }

    /// What the store has written.
    pub(crate) fn log(&self) -> String {
        self.processes.log()
    }

    /// Waits until the store takes requests.
    pub(crate) async fn ready(&self) {
        self.processes.until_ok(&self.admin, "/health/ready").await;
    }

    /// Waits until every service of the store is well.
    pub(crate) async fn well(&self) {
        self.processes.until_ok(&self.admin, "/health").await;
    }

    /// A token of this user, as anybody at the store's machine can have one made.
    pub(crate) fn token(&self, user: &str) -> String {
        let output = command()
            .args(["token", "--user", user, "--data"])
            .arg(self.data())
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_storefront"))
}
