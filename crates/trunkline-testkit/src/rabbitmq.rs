//! A real RabbitMQ server for tests, from Debian's package.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;

use crate::conformance::Breakable;
use crate::{Proxy, free_port};

/// How long a server may take to start. Erlang compiles nothing, but loads much.
const START_MAX: Duration = Duration::from_secs(120);

/// Where packages put the server's own scripts; those in the PATH may ask for another user.
const SCRIPTS: [&str; 3] = [
    "/usr/lib/rabbitmq/bin",
    "/opt/rabbitmq/sbin",
    "/usr/local/sbin",
];

/// Starts Erlang's name server and the server, and does what it is told, a word a line, answering each. The end of its
/// input comes when the test ends however it ends: then it kills both and removes their folder.
const WATCHDOG: &str = r#"
folder=$1; shift
cd "$folder" || exit 1
epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" >/dev/null 2>&1 &
epmd=$!
start() { "$@" >>"$folder/server.log" 2>&1 </dev/null & server=$!; }
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
kill -KILL $epmd
cd /
for try in 1 2 3 4 5; do rm -rf "$folder" && break; sleep 0.2; done
"#;

/// A running node without plugins, on ports of its own, and a proxy in front of it. It is stopped and removed when
/// dropped, and when the test process ends or is killed.
pub struct Server {
    folder: PathBuf,
    port: u16,
    proxy: Proxy,
    environment: Vec<(&'static str, String)>,
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
    /// Loudly, when RabbitMQ is not installed or does not start.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a server.
    ///
    /// # Panics
    /// Loudly, when RabbitMQ is not installed or does not start.
    pub fn start() -> Self {
        let scripts = SCRIPTS.map(Path::new);
        let script = scripts
            .iter()
            .map(|folder| folder.join("rabbitmq-server"))
            .find(|script| script.exists());
        let script = script.unwrap_or_else(|| {
            panic!(
                "RabbitMQ is not installed: there is no rabbitmq-server in {SCRIPTS:?}. \
                 Install Debian's package `rabbitmq-server` without its service: \
                 apt-get install --no-install-recommends rabbitmq-server"
            )
        });
        let folder = tempfile::Builder::new()
            .prefix("trunkline-rabbitmq-")
            .tempdir();
        let folder = folder.expect("a folder for RabbitMQ").keep();
        let port = free_port().expect("a free port");
        let environment = environment(&folder, port);
        std::fs::write(folder.join("plugins"), "[].\n").expect("a file is written");
        std::fs::write(folder.join("rabbitmq.conf"), "log.console = true\n")
            .expect("a file is written");
        let mut command = Command::new("sh");
        command.args(["-c", WATCHDOG, "sh"]).arg(&folder);
        command.arg(&script).arg("-noinput");
        // A group of its own, so that an interrupt at the terminal leaves it time to clean up.
        let mut shell = command
            .envs(environment.iter().map(|(name, value)| (name, value)))
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
            proxy: Proxy::to((Ipv4Addr::LOCALHOST, port).into()).expect("a proxy"),
            folder,
            port,
            environment,
            watchdog: Mutex::new(Some(watchdog)),
        };
        server.wait_until_ready();
        server
    }

    /// Where it is: `amqp://guest:guest@127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.port)
    }

    /// The same server behind the proxy whose connections [`Breakable::cut_after`] cuts.
    pub fn proxied_url(&self) -> String {
        format!("amqp://guest:guest@{}", self.proxy.address())
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

    /// Runs `rabbitmqctl` on it; gives what it said.
    ///
    /// # Panics
    /// When it fails.
    pub fn control(&self, arguments: &[&str]) -> String {
        let tool = SCRIPTS
            .map(|folder| Path::new(folder).join("rabbitmqctl"))
            .into_iter();
        let tool = tool
            .chain([PathBuf::from("/usr/lib/rabbitmq/lib/rabbitmqctl")])
            .find(|tool| tool.exists());
        let mut command = Command::new(tool.expect("rabbitmqctl comes with the server"));
        command
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .args(arguments)
            .stdin(Stdio::null());
        let output = command.output().expect("rabbitmqctl runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}{complained}");
        said
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
        let step = Duration::from_millis(20);
        for _ in 0..START_MAX.as_millis() / step.as_millis() {
            if self.greet().is_ok() {
                return;
            }
            std::thread::sleep(step);
        }
        let log = std::fs::read_to_string(self.folder.join("server.log"));
        panic!("RabbitMQ did not start:\n{}", log.unwrap_or_default());
    }

    /// Says AMQP's protocol header and waits for the beginning of an answer.
    fn greet(&self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer)
    }
}

/// A name, ports and folders that no other node has.
fn environment(folder: &Path, port: u16) -> Vec<(&'static str, String)> {
    let path = |name: &str| folder.join(name).display().to_string();
    let free = || free_port().expect("a free port").to_string();
    vec![
        ("HOME", folder.display().to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("ERL_EPMD_PORT", free()),
        ("RABBITMQ_ALLOW_INPUT", "1".to_owned()),
        ("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")),
        ("RABBITMQ_CONF_ENV_FILE", path("rabbitmq-env.conf")),
        ("RABBITMQ_DIST_PORT", free()),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins")),
        ("RABBITMQ_LOG_BASE", path("log")),
        ("RABBITMQ_MNESIA_BASE", path("data")),
        ("RABBITMQ_NODENAME", format!("trunkline{port}@localhost")),
        ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_NODE_PORT", port.to_string()),
        ("RABBITMQ_PID_FILE", path("pid")),
    ]
}

impl Breakable for Server {
    fn kill(&self) {
        self.kill();
    }

    fn restart(&self) {
        self.restart();
    }

    fn pause(&self) {
        self.pause();
    }

    fn resume(&self) {
        self.resume();
    }

    fn cut_after(&self, bytes: u32) {
        self.proxy.cut_after(bytes);
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

    #[test]
    fn a_server_comes_back_after_a_kill_and_goes_away_with_its_folder() {
        let server = Server::start();
        let folder = server.folder().to_owned();
        server.control(&["add_vhost", "kept"]);
        server.kill();
        assert!(server.greet().is_err(), "it is dead");
        server.restart();
        assert!(server.control(&["list_vhosts"]).contains("kept"));
        server.pause();
        assert!(server.greet().is_err(), "it does not answer");
        server.resume();
        server.greet().expect("it answers again");
        drop(server);
        assert!(!folder.exists(), "it is removed when dropped");
    }
}
