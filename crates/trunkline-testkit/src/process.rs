//! Child processes that don't outlive their test.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process_group};

/// A child process in a process group of its own, killed with all its descendants when dropped.
#[derive(Debug)]
pub struct Child {
    child: std::process::Child,
}

impl Child {
    /// Starts `command` as the leader of a new process group.
    ///
    /// # Errors
    /// When the program can't be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        Ok(Self {
            child: command.process_group(0).spawn()?,
        })
    }

    /// The process's id, which is its group's too.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process itself: its pipes, and waiting for it.
    pub fn process(&mut self) -> &mut std::process::Child {
        &mut self.child
    }

    /// Asks the process to end (`SIGTERM`).
    ///
    /// # Errors
    /// When it is gone.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Kills the group at once (`SIGKILL`) and waits for the process.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        // A group that is gone already is as good as killed.
        drop(self.signal(Signal::KILL));
        self.child.wait()
    }

    /// Whether a status says that the process was killed by `SIGKILL`.
    pub fn was_killed(status: ExitStatus) -> bool {
        status.signal() == Some(Signal::KILL.as_raw())
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let raw = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        let group = Pid::from_raw(raw).ok_or_else(|| io::Error::other("no process"))?;
        Ok(kill_process_group(group, signal)?)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_child_takes_its_own_children_along() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!(
            "sleep 1000 & echo $! > {}.new; mv {0}.new {0}; wait",
            file.display()
        );
        let mut child = Child::spawn(Command::new("sh").arg("-c").arg(script)).unwrap();
        assert!(child.process().try_wait().unwrap().is_none());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let limit = std::time::Duration::from_secs(10);
        runtime.block_on(crate::eventually(limit, async || file.exists()));
        let grandchild: i32 = std::fs::read_to_string(&file)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let runs = move || std::path::Path::new(&format!("/proc/{grandchild}/stat")).exists();
        assert!(runs(), "it started its own child");
        drop(child);
        // A zombie waits for whoever adopted it; what counts is that it no longer runs.
        let state = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        let dead = move || state(grandchild).is_none_or(|stat| stat.contains(") Z "));
        runtime.block_on(crate::eventually(limit, async || dead()));
    }
}
