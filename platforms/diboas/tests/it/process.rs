//! The platform and the sandbox of the chains as processes of their own.

use std::ops::Deref;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use trunkline_testkit::http::Caller;
use trunkline_testkit::{Child, Processes, free_port};

use crate::outside::Outside;

pub(crate) struct World {
    outside: Outside,
    folder: TempDir,
    addresses: [String; 3],
    processes: Processes,
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
        let processes = Processes::new(folder.path().join("platform.log"));
        let chains = processes.spawn(&mut chains);
        let world = Self {
            outside: Outside {
                gateway,
                admin,
                sandbox,
                data: folder.path().join("data"),
            },
            folder,
            addresses,
            processes,
            _sandbox: chains,
        };
        world.processes.until_ok(&world.sandbox, "/v1/legs").await;
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
        self.processes.spawn(&mut process)
    }

    /// Waits until the platform takes requests.
    pub(crate) async fn ready(&self) {
        self.processes.until_ok(&self.admin, "/health/ready").await;
    }

    /// Waits until every service is well.
    pub(crate) async fn well(&self) {
        self.processes.until_ok(&self.admin, "/health").await;
    }

    /// Waits until so many processes have said that this is up.
    #[cfg(feature = "redis")]
    pub(crate) async fn is_up(&self, name: &str, times: usize) {
        let line = format!("{name} is up");
        let said = |log: &str| log.matches(&line).count() >= times;
        self.processes.until_log(said).await;
    }

    /// Waits until a process has ended, and well.
    #[cfg(feature = "redis")]
    pub(crate) async fn has_ended(&self, process: Child) {
        self.processes.has_ended(process).await;
    }

    /// What the processes have written.
    pub(crate) fn log(&self) -> String {
        self.processes.log()
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_diboas"))
}
