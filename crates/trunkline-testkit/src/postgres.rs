//! A real PostgreSQL server for tests, from Debian's package.

use std::io::{self, Write};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, geteuid, kill_process};

/// How long a server may take to start.
const START_MAX: Duration = Duration::from_secs(60);

/// How often is looked whether it has.
const STEP: Duration = Duration::from_millis(20);

/// Starts the server, starts it again at each line of its input, waits for the end of that, which comes
/// when the test ends however it ends, and then stops the server and removes its folder.
const WATCHDOG: &str = r#"
folder=$1; bin=$2; shift 2
cd / || exit 1
start() {
    "$@" "$bin/postgres" -D "$folder/data" -k "$folder" -c listen_addresses= \
        -c max_connections=300 -c shared_buffers=64MB >>"$folder/server.log" 2>&1 </dev/null &
    server=$!
}
"$@" "$bin/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C -N \
    >"$folder/initdb.log" 2>&1 </dev/null && start "$@"
while read -r _; do wait $server; start "$@"; done
kill -INT $(cat "$folder/data/postmaster.pid" 2>/dev/null | head -n 1) $server 2>/dev/null
wait $server
rm -rf "$folder"
"#;

/// A running server, durable as PostgreSQL is by default, reached through a socket in a folder of its
/// own. It is stopped and removed when dropped, and when the test process ends or is killed.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    bin: PathBuf,
    watchdog: Mutex<Option<ChildStdin>>,
    schemas: AtomicUsize,
}

impl Postgres {
    /// The server that all tests of this process share; each takes a schema of its own.
    ///
    /// # Panics
    /// Loudly, when PostgreSQL is not installed or does not start.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a server.
    ///
    /// # Panics
    /// Loudly, when PostgreSQL is not installed or does not start.
    pub fn start() -> Self {
        let bin = find_bin().unwrap_or_else(|| {
            panic!(
                "PostgreSQL is not installed: there is no /usr/lib/postgresql/*/bin/postgres. \
                 Install Debian's package `postgresql`: apt-get install postgresql"
            )
        });
        let server = Self::launch(bin).unwrap_or_else(|error| panic!("no PostgreSQL: {error}"));
        server.wait_until_ready();
        server
    }

    fn launch(bin: PathBuf) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("trunkline-pg-")
            .tempdir()?
            .keep();
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(WATCHDOG)
            .arg("sh")
            .arg(&folder)
            .arg(&bin);
        if geteuid().is_root() {
            // PostgreSQL refuses to run as root.
            let (name, user, group) = ordinary_user()?;
            chown(&folder, Some(user), Some(group))?;
            command.args(["setpriv", "--reuid", &name, "--regid", &group.to_string()]);
            command.arg("--clear-groups");
        } else {
            command.arg("env");
        }
        // A group of its own, so that an interrupt at the terminal leaves it time to clean up.
        let mut watchdog = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let watchdog = Mutex::new(watchdog.stdin.take());
        Ok(Self {
            folder,
            bin,
            watchdog,
            schemas: AtomicUsize::new(0),
        })
    }

    fn wait_until_ready(&self) {
        for _ in 0..START_MAX.as_millis() / STEP.as_millis() {
            let ready = self.command("pg_isready").arg("-q").status();
            if ready.is_ok_and(|status| status.success()) {
                return;
            }
            std::thread::sleep(STEP);
        }
        let log = |name| std::fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        panic!(
            "PostgreSQL did not start:\n{}{}",
            log("initdb.log"),
            log("server.log")
        );
    }

    /// The URL of the database `database` (there is one called `postgres`), without parameters for a
    /// schema.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres@localhost/{database}?host={}",
            self.folder.display()
        )
    }

    /// The URL of a schema of the database `postgres` that no other test has. `name` (letters, digits
    /// and `_`) begins its name.
    pub fn schema_url(&self, name: &str) -> String {
        let number = self.schemas.fetch_add(1, Ordering::Relaxed);
        format!("{}&schema={name}_{number}", self.url("postgres"))
    }

    /// One of PostgreSQL's programs, such as `psql` or `pg_dump`, told where the server is.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command
            .env("PGHOST", &self.folder)
            .env("PGUSER", "postgres")
            .stdin(Stdio::null());
        command
    }

    /// Kills the server and all its processes (`SIGKILL`), and waits until they are gone. What it had
    /// promised to keep is on disk.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&self) {
        let file = self.folder.join("data/postmaster.pid");
        let text = std::fs::read_to_string(file).expect("a server that runs has this file");
        let main = text.lines().next().and_then(|line| line.parse().ok());
        let main: u32 = main.expect("its first line is the server's process");
        let children = std::fs::read_to_string(format!("/proc/{main}/task/{main}/children"));
        let children = children.unwrap_or_default();
        // The server itself first, or it would start the others anew.
        send_kill(main);
        let mut all: Vec<u32> = children.split(' ').filter_map(|n| n.parse().ok()).collect();
        all.iter().for_each(|child| send_kill(*child));
        all.push(main);
        for _ in 0..START_MAX.as_millis() / STEP.as_millis() {
            if !all.iter().any(|process| is_alive(*process)) {
                return;
            }
            std::thread::sleep(STEP);
        }
        panic!("PostgreSQL outlived SIGKILL");
    }

    /// Starts the server that was killed, on the same data, and waits until it answers.
    ///
    /// # Panics
    /// Loudly, when it does not start.
    pub fn restart(&self) {
        if let Some(watchdog) = self.watchdog.lock().as_mut() {
            watchdog.write_all(b"\n").expect("the watchdog listens");
        }
        self.wait_until_ready();
    }

    /// The folder of the server's data, socket and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The end of its input is what the watchdog waits for.
        drop(self.watchdog.lock().take());
        let step = Duration::from_millis(20);
        for _ in 0..500 {
            if !self.folder.exists() {
                return;
            }
            std::thread::sleep(step);
        }
    }
}

fn send_kill(process: u32) {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    // One that is gone already is as good as killed.
    let _gone = pid.map(|pid| kill_process(pid, Signal::KILL));
}

/// Whether a process runs; one that is dead and only not waited for does not.
fn is_alive(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// The newest installed version's programs.
fn find_bin() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let version = |path: &Path| -> Option<u32> { path.file_name()?.to_str()?.parse().ok() };
    versions
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("bin/postgres").exists())
        .max_by_key(|path| version(path))
        .map(|path| path.join("bin"))
}

/// The name, user and group of somebody who is not root.
fn ordinary_user() -> io::Result<(String, u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd")?;
    let find = |name: &str| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let found = fields.next()? == name;
            let user = fields.nth(1)?.parse().ok()?;
            let group = fields.next()?.parse().ok()?;
            found.then(|| (name.to_owned(), user, group))
        })
    };
    find("postgres")
        .or_else(|| find("nobody"))
        .ok_or_else(|| io::Error::other("running as root, and there is no user postgres or nobody"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_starts_answers_and_goes_away_with_its_folder() {
        let server = Postgres::start();
        let folder = server.folder().to_owned();
        let answer = server
            .command("psql")
            .args(["-Atc", "SHOW fsync"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "on");
        assert_ne!(server.schema_url("a"), server.schema_url("a"));
        for _ in 0..2 {
            server.kill();
            let ready = server.command("pg_isready").arg("-q").status().unwrap();
            assert!(!ready.success(), "it is gone");
            server.restart();
        }
        drop(server);
        assert!(!folder.exists(), "it is removed when dropped");
    }
}
