//! Processes of a platform under test: what they write is kept, and told when they do not come up.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use hyper::Method;

use crate::http::Caller;
use crate::{Child, eventually_or};

/// All of a platform begins, on a machine that does other things too.
const UP: Duration = Duration::from_secs(180);

/// Processes that write into one log.
#[derive(Debug, Clone)]
pub struct Processes {
    log: PathBuf,
}

impl Processes {
    /// They write into this file.
    pub fn new(log: impl Into<PathBuf>) -> Self {
        Self { log: log.into() }
    }

    /// Starts one; what it prints is added to the log.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn spawn(&self, command: &mut Command) -> Child {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.expect("the log can be written");
        let same = log.try_clone().expect("the log can be written twice");
        command.stdin(Stdio::null()).stdout(same).stderr(log);
        Child::spawn(command).expect("the program can be started")
    }

    /// What they have written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until they have written so.
    ///
    /// # Panics
    /// If they have not within three minutes: with all that they wrote.
    pub async fn until_log(&self, says: impl Fn(&str) -> bool) {
        eventually_or(UP, async || says(&self.log()), || self.log()).await;
    }

    /// Waits until this is answered with 200, such as `/health/ready` or `/health` of an admin API.
    ///
    /// # Panics
    /// If it is not within three minutes: with all that they wrote.
    pub async fn until_ok(&self, of: &Caller, path: &str) {
        let is_ok = async || {
            let answer = of.try_send(Method::GET, path, None).await;
            answer.is_ok_and(|answer| answer.status == 200)
        };
        eventually_or(UP, is_ok, || self.log()).await;
    }

    /// Waits until one has ended, and well.
    ///
    /// # Panics
    /// If it ends otherwise: with all that they wrote.
    pub async fn has_ended(&self, mut process: Child) {
        let ended = tokio::task::spawn_blocking(move || process.process().wait());
        let status = ended.await.expect("it waits to the end");
        let status = status.expect("a child can be waited for");
        assert!(
            status.success(),
            "a process did not end well: {status}\n{}",
            self.log()
        );
    }
}
