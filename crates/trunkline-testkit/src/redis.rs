//! A real Redis server for tests, from Debian's package.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;

use crate::free_port;

/// How long a server may take to start.
const START_MAX: Duration = Duration::from_secs(60);

/// Starts the server and does what it is told, a word a line, answering each. The end of its input comes
/// when the test ends however it ends: then it kills the server and removes its folder.
const WATCHDOG: &str = r#"
folder=$1; shift
cd / || exit 1
start() { "$@" >>"$folder/server.log" 2>&1 & server=$!; }
start "$@"
while read -r word; do
    case $word in
        kill) kill -KILL $server; wait $server ;;
        start) start "$@" ;;
        pause) kill -STOP $server ;;
        resume) kill -CONT $server ;;
    esac
    echo "$word"
done
kill -KILL $server
wait $server
rm -rf "$folder"
"#;

/// A running server that syncs its append-only file before it answers (`appendfsync always`), on a port of
/// its own. It is stopped and removed when dropped, and when the test process ends or is killed.
pub struct Server {
    folder: PathBuf,
    port: u16,
    watchdog: Mutex<Option<Watchdog>>,
}

struct Watchdog {
    shell: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Server {
    /// The server that all tests of this process share; each takes a prefix of its own.
    ///
    /// # Panics
    /// Loudly, when Redis is not installed or does not start.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a server.
    ///
    /// # Panics
    /// Loudly, when Redis is not installed or does not start.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more settings, such as `["--requirepass", "secret"]`.
    ///
    /// # Panics
    /// Loudly, when Redis is not installed or does not start.
    pub fn start_with(settings: &[&str]) -> Self {
        let version = Command::new("redis-server").arg("--version").output();
        assert!(
            version.is_ok(),
            "Redis is not installed: there is no redis-server in the PATH. \
             Install Debian's package `redis-server`: apt-get install redis-server"
        );
        let folder = tempfile::Builder::new()
            .prefix("trunkline-redis-")
            .tempdir();
        let folder = folder.expect("a folder for Redis").keep();
        let port = free_port().expect("a free port");
        let mut command = Command::new("sh");
        command.args(["-c", WATCHDOG, "sh"]).arg(&folder);
        command
            .args(["redis-server", "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always"])
            .args(["--port", &port.to_string()])
            .arg("--dir")
            .arg(&folder)
            .args(settings);
        // A group of its own, so that an interrupt at the terminal leaves it time to clean up.
        let mut shell = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell starts");
        let watchdog = Watchdog {
            orders: shell.stdin.take().expect("it was piped"),
            answers: BufReader::new(shell.stdout.take().expect("it was piped")),
            shell,
        };
        let server = Self {
            folder,
            port,
            watchdog: Mutex::new(Some(watchdog)),
        };
        server.wait_until_ready();
        server
    }

    /// Where it is: `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its data and log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Kills it (`SIGKILL`).
    pub fn kill(&self) {
        self.order("kill");
    }

    /// Starts it again after [`kill`](Self::kill), with the same port and data, and waits until it answers.
    pub fn restart(&self) {
        self.order("start");
        self.wait_until_ready();
    }

    /// Stops it where it stands (`SIGSTOP`).
    pub fn pause(&self) {
        self.order("pause");
    }

    /// Lets it go on (`SIGCONT`).
    pub fn resume(&self) {
        self.order("resume");
    }

    /// Redis's own client, told where the server is.
    pub fn cli(&self) -> Command {
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        command.stdin(Stdio::null());
        command
    }

    fn order(&self, word: &str) {
        let mut watchdog = self.watchdog.lock();
        let watchdog = watchdog.as_mut().expect("it runs until it is dropped");
        writeln!(watchdog.orders, "{word}").expect("the watchdog lives");
        let mut answer = String::new();
        let read = watchdog.answers.read_line(&mut answer);
        read.expect("the watchdog answers");
        assert_eq!(answer.trim(), word);
    }

    fn wait_until_ready(&self) {
        let step = Duration::from_millis(10);
        for _ in 0..START_MAX.as_millis() / step.as_millis() {
            // Without its password it says so, which is an answer, too; while it loads it is not ready.
            let answer = self.ping().unwrap_or_default();
            if answer.starts_with("+PONG") || answer.starts_with("-NOAUTH") {
                return;
            }
            std::thread::sleep(step);
        }
        let log = std::fs::read_to_string(self.folder.join("server.log"));
        panic!("Redis did not start:\n{}", log.unwrap_or_default());
    }

    fn ping(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 64];
        let count = stream.read(&mut answer)?;
        let answer = answer.get(..count).unwrap_or_default();
        Ok(String::from_utf8_lossy(answer).into_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(Watchdog {
            mut shell, orders, ..
        }) = self.watchdog.lock().take()
        {
            // The end of its input is what the watchdog waits for.
            drop(orders);
            drop(shell.wait());
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(server: &Server, question: &[&str]) -> String {
        let answer = server.cli().args(question).output().expect("it answers");
        String::from_utf8_lossy(&answer.stdout).trim().to_owned()
    }

    #[test]
    fn a_server_keeps_its_data_over_a_kill_and_goes_away_with_its_folder() {
        let server = Server::start();
        let folder = server.folder().to_owned();
        assert_eq!(ask(&server, &["SET", "a", "1"]), "OK");
        server.kill();
        assert!(server.ping().is_err(), "it is dead");
        server.restart();
        assert_eq!(ask(&server, &["GET", "a"]), "1");
        server.pause();
        assert!(server.ping().is_err(), "it does not answer");
        server.resume();
        assert_eq!(ask(&server, &["GET", "a"]), "1");
        drop(server);
        assert!(!folder.exists(), "it is removed when dropped");
    }
}
