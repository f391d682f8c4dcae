//! A real PostgreSQL server for tests, from Debian's package.

use std::io;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::geteuid;

/// How long a server may take to start.
const START_MAX: Duration = Duration::from_secs(60);

/// Starts the server, waits for the end of its input, which comes when the test ends however it ends,
/// and then stops the server and removes its folder.
const WATCHDOG: &str = r#"
folder=$1; bin=$2; shift 2
cd / || exit 1
"$@" "$bin/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C -N \
    >"$folder/initdb.log" 2>&1 &&
"$@" "$bin/postgres" -D "$folder/data" -k "$folder" -c listen_addresses= \
    -c max_connections=300 -c shared_buffers=64MB >"$folder/server.log" 2>&1 &
server=$!
cat >/dev/null
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
    watchdog: Option<ChildStdin>,
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
        let watchdog = watchdog.stdin.take();
        Ok(Self {
            folder,
            bin,
            watchdog,
            schemas: AtomicUsize::new(0),
        })
    }

    fn wait_until_ready(&self) {
        let step = Duration::from_millis(20);
        for _ in 0..START_MAX.as_millis() / step.as_millis() {
            let ready = self.command("pg_isready").arg("-q").status();
            if ready.is_ok_and(|status| status.success()) {
                return;
            }
            std::thread::sleep(step);
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

    /// The folder of the server's data, socket and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The end of its input is what the watchdog waits for.
        drop(self.watchdog.take());
        let step = Duration::from_millis(20);
        for _ in 0..500 {
            if !self.folder.exists() {
                return;
            }
            std::thread::sleep(step);
        }
    }
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
        drop(server);
        assert!(!folder.exists(), "it is removed when dropped");
    }
}
