//! The platform and the sandbox of the chains as processes of their own.

use std::fs::File;
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use hyper::Method;
use tempfile::TempDir;
use trunkline_testkit::http::Caller;
use trunkline_testkit::{Child, eventually_or, free_port};

use crate::outside::Outside;

/// All of it begins, on a machine that does other things too.
const UP: Duration = Duration::from_secs(180);

pub(crate) struct World {
    outside: Outside,
    folder: TempDir,
    addresses: [String; 3],
    _sandbox: Child,
}

impl Deref for World {
    type Target = Outside;

    fn deref(&self) -> &Outside {
        &self.outside
    }
}

impl World {
    /// Starts the sandbox; the platform has yet to be started.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let addresses = [(); 3].map(|()| format!("127.0.0.1:{}", free_port().unwrap()));
        let [gateway, admin, sandbox] = addresses
            .clone()
            .map(|at| Caller::new(format!("http://{at}")));
        let mut chains = command();
        chains.args(["sandbox", "--listen", &addresses[2], "--data"]);
        chains.arg(folder.path().join("chains"));
        let chains = Child::spawn(chains.stdout(Stdio::null())).unwrap();
        let world = Self {
            outside: Outside {
                gateway,
                admin,
                sandbox,
                data: folder.path().join("data"),
            },
            folder,
            addresses,
            _sandbox: chains,
        };
        let answers = async || {
            let ledger = world.sandbox.try_send(Method::GET, "/v1/legs", None).await;
            ledger.is_ok_and(|answer| answer.status == 200)
        };
        eventually_or(UP, answers, || world.log()).await;
        world
    }

    /// Writes a configuration, and says where it is.
    pub(crate) fn configuration(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    /// A process of the platform with these words, `up` first or `run` with names.
    pub(crate) fn process(&self, words: &[&str], config: &PathBuf) -> Command {
        let mut process = command();
        process.args(words).arg("--config").arg(config);
        process.arg("--data").arg(&self.data).arg("--quiet");
        process.args(["--gateway", &self.addresses[0]]);
        process.args(["--chains", &format!("http://{}", self.addresses[2])]);
        if words[0] == "up" || words.contains(&"gateway") {
            process.args(["--admin", &self.addresses[1]]);
        }
        process
    }

    /// Starts it.
    pub(crate) fn spawn(&self, mut process: Command) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file());
        let log = log.unwrap();
        process.stdout(log.try_clone().unwrap()).stderr(log);
        Child::spawn(&mut process).unwrap()
    }

    /// Waits until the platform takes requests.
    pub(crate) async fn ready(&self) {
        self.says("/health/ready").await;
    }

    /// Waits until every service is well.
    pub(crate) async fn well(&self) {
        self.says("/health").await;
    }

    async fn says(&self, path: &str) {
        let well = async || {
            let health = self.admin.try_send(Method::GET, path, None).await;
            health.is_ok_and(|answer| answer.status == 200)
        };
        eventually_or(UP, well, || self.log()).await;
    }

    /// Waits until so many processes have said that this is up.
    #[cfg(feature = "redis")]
    pub(crate) async fn is_up(&self, name: &str, times: usize) {
        let line = format!("{name} is up");
        let said = async || self.log().matches(&line).count() >= times;
        eventually_or(UP, said, || self.log()).await;
    }

    /// Waits until a process has ended, and well.
    #[cfg(feature = "redis")]
    pub(crate) async fn has_ended(&self, mut process: Child) {
        let ended = tokio::task::spawn_blocking(move || process.process().wait().unwrap());
        let status = ended.await.unwrap();
        assert!(
            status.success(),
            "a process did not end well: {status}\n{}",
            self.log()
        );
    }

    /// What the processes have written.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("platform.log")
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_diboas"))
}
