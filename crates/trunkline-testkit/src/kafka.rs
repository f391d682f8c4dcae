//! A real Kafka server for tests: Apache Kafka from its own jars, one node in KRaft mode.
//!
//! The jars come from `cargo xtask`, into `target/engines/kafka`; Java 17 or newer is on the path.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use crate::conformance::Breakable;
use crate::{Proxy, free_port};

/// How long a server may take to start.
const START_MAX: Duration = Duration::from_secs(90);
const STEP: Duration = Duration::from_millis(10);

/// Waits for the end of its input, which comes when the test ends however it ends, and then kills the
/// server and removes its folder.
const WATCHDOG: &str = r#"
cd / || exit 1
cat >/dev/null
kill -KILL $(cat "$1/pid" 2>/dev/null) 2>/dev/null
rm -rf "$1"
"#;

/// Says which process it is, then becomes the server.
const LAUNCH: &str = r#"echo $$ >"$1/pid.new" && mv "$1/pid.new" "$1/pid" && shift && exec "$@""#;

/// What the server says when clients may come.
const STARTED: &str = "Kafka Server started";

/// The user of [`Server::sasl_url`].
const USER: &str = "shop";
/// Its password.
const PASSWORD: &str = "let me in";

/// A running server with a folder and ports of its own. It is killed and removed when dropped, and when the
/// test process ends or is killed.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    home: PathBuf,
    port: u16,
    sasl_port: u16,
    proxy: Proxy,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    server: Option<Child>,
    watchdog: Option<ChildStdin>,
    starts: usize,
}

impl Server {
    /// The server that all tests of this process share; each takes a prefix of its own.
    ///
    /// # Panics
    /// Loudly, when Kafka or Java is not installed, or Kafka does not start.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a server.
    ///
    /// # Panics
    /// Loudly, when Kafka or Java is not installed, or Kafka does not start.
    pub fn start() -> Self {
        let home = find_home();
        let server = Self::create(home).unwrap_or_else(|error| panic!("no Kafka: {error}"));
        server.format();
        server.launch();
        server
    }

    fn create(home: PathBuf) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("trunkline-kafka-")
            .tempdir()?
            .keep();
        let (port, sasl_port, controller) = (free_port()?, free_port()?, free_port()?);
        let proxied = free_port()?;
        let proxy = Proxy::to(([127, 0, 0, 1], proxied).into())?;
        let ports = [port, sasl_port, controller, proxied, proxy.address().port()];
        let properties = properties(&folder, ports);
        std::fs::write(folder.join("server.properties"), properties)?;
        // A group of its own, so that an interrupt at the terminal leaves it time to clean up.
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "sh"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let state = State {
            server: None,
            watchdog: watchdog.stdin.take(),
            starts: 0,
        };
        Ok(Self {
            folder,
            home,
            port,
            sasl_port,
            proxy,
            state: Mutex::new(state),
        })
    }

    /// Java with Kafka's classes, in the folder that the archive of prepared classes was made in.
    fn java(&self) -> Vec<String> {
        let mut command: Vec<String> = [
            "java",
            "-Xmx256m",
            "-Xms96m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Xshare:auto",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
        ]
        .map(str::to_owned)
        .to_vec();
        if self.home.join("classes.jsa").exists() {
            command.push("-XX:SharedArchiveFile=classes.jsa".to_owned());
        }
        command.extend(["-cp".to_owned(), "libs/*".to_owned()]);
        command
    }

    fn format(&self) {
        const CLUSTER: &str = "MkU3OEVBNTcwNTJENDM2Qg";
        let mut command = self.java();
        command
            .extend(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"].map(str::to_owned));
        let (java, rest) = command.split_first().expect("a program");
        let formatted = Command::new(java)
            .args(rest)
            .arg(self.folder.join("server.properties"))
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .output();
        let formatted = formatted.unwrap_or_else(|error| panic!("{}: {error}", missing("Java 17")));
        let told = String::from_utf8_lossy(&formatted.stderr);
        assert!(
            formatted.status.success(),
            "Kafka's storage was not formatted:\n{told}"
        );
    }

    /// Starts the process and waits until clients may come.
    fn launch(&self) {
        let mut state = self.state.lock();
        state.starts += 1;
        let path = self.folder.join(format!("server-{}.log", state.starts));
        let log = File::create(&path).expect("a log file");
        let server = Command::new("sh")
            .args(["-c", LAUNCH, "sh"])
            .arg(&self.folder)
            .args(self.java())
            .arg("kafka.Kafka")
            .arg(self.folder.join("server.properties"))
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn();
        let mut server = server.unwrap_or_else(|error| panic!("no Kafka: {error}"));
        let told = || std::fs::read_to_string(&path).unwrap_or_default();
        for _ in 0..START_MAX.as_millis() / STEP.as_millis() {
            if told().contains(STARTED) {
                state.server = Some(server);
                return;
            }
            if let Ok(Some(status)) = server.try_wait() {
                panic!("Kafka ended with {status}:\n{}", told());
            }
            std::thread::sleep(STEP);
        }
        drop(server.kill());
        panic!("Kafka did not start within {START_MAX:?}:\n{}", told());
    }

    /// The URL of the server, without parameters.
    pub fn url(&self) -> String {
        format!("kafka://{}", self.brokers())
    }

    /// Where the server is, as other clients want to know it: `host:port`.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL of the same server where it asks for credentials, with these; without any, with the right ones.
    pub fn sasl_url(&self, credentials: Option<(&str, &str)>) -> String {
        let (user, password) = credentials.unwrap_or((USER, PASSWORD));
        let password = password.replace(' ', "%20");
        format!("kafka://{user}:{password}@127.0.0.1:{}", self.sasl_port)
    }

    /// The URL of the same server behind the proxy whose connections [`Breakable::cut_after`] cuts.
    pub fn proxied_url(&self) -> String {
        format!("kafka://{}", self.proxy.address())
    }

    /// Kills the server at once (`SIGKILL`).
    pub fn kill(&self) {
        if let Some(mut server) = self.state.lock().server.take() {
            server.kill().expect("it is killed");
            server.wait().expect("it ends");
        }
    }

    /// Starts the server again, at the same ports and with the same data; waits until clients may come.
    pub fn restart(&self) {
        self.kill();
        self.launch();
    }

    /// Stops the server where it is (`SIGSTOP`): connections stay, nobody answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets the server go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let state = self.state.lock();
        let server = state.server.as_ref().expect("the server runs");
        let id = i32::try_from(server.id()).expect("an id of a process");
        let id = Pid::from_raw(id).expect("an id of a process");
        kill_process(id, signal).expect("the server is there");
    }

    /// The folder of the server's data and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Breakable for Server {
    fn kill(&self) {
        Self::kill(self);
    }

    fn restart(&self) {
        Self::restart(self);
    }

    fn pause(&self) {
        Self::pause(self);
    }

    fn resume(&self) {
        Self::resume(self);
    }

    fn cut_after(&self, bytes: u32) {
        self.proxy.cut_after(bytes);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        // The end of its input is what the watchdog waits for.
        drop(self.state.lock().watchdog.take());
        for _ in 0..1_000 {
            if !self.folder.exists() {
                return;
            }
            std::thread::sleep(STEP);
        }
    }
}

/// Small, quick to start, and without the pauses that a server makes for members that may come.
fn properties(folder: &Path, [port, sasl, controller, proxied, proxy]: [u16; 5]) -> String {
    let login = "org.apache.kafka.common.security.plain.PlainLoginModule";
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAIN://127.0.0.1:{port},SASL://127.0.0.1:{sasl},\
         PROXIED://127.0.0.1:{proxied},CONTROL://127.0.0.1:{controller}\n\
         advertised.listeners=PLAIN://127.0.0.1:{port},SASL://127.0.0.1:{sasl},\
         PROXIED://127.0.0.1:{proxy}\n\
         inter.broker.listener.name=PLAIN\n\
         controller.listener.names=CONTROL\n\
         listener.security.protocol.map=PLAIN:PLAINTEXT,SASL:SASL_PLAINTEXT,\
         PROXIED:PLAINTEXT,CONTROL:PLAINTEXT\n\
         listener.name.sasl.sasl.enabled.mechanisms=PLAIN\n\
         listener.name.sasl.plain.sasl.jaas.config={login} required \
         user_{USER}=\"{PASSWORD}\";\n\
         log.dirs={}/data\n\
         auto.create.topics.enable=true\n\
         num.partitions=1\n\
         offsets.topic.num.partitions=1\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.num.partitions=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.num.partitions=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         group.min.session.timeout.ms=100\n\
         log.index.size.max.bytes=65536\n\
         num.network.threads=2\n\
         num.io.threads=2\n",
        folder.display()
    )
}

/// The folder with Kafka's jars.
fn find_home() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let homes = target.into_iter().chain([root]);
    let mut homes = homes.map(|target| target.join("engines/kafka"));
    let home = homes.find(|home| home.join("libs").exists());
    home.unwrap_or_else(|| panic!("{}", missing("Apache Kafka")))
}

fn missing(what: &str) -> String {
    format!(
        "{what} is not installed. As root on Debian: cargo xtask test, or by hand \
         `apt-get install maven openjdk-17-jre-headless` and Kafka's jars in target/engines/kafka/libs"
    )
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_server_starts_is_killed_and_restarted_and_goes_away_with_its_folder() {
        let server = Server::start();
        let folder = server.folder().to_owned();
        let answers = || TcpStream::connect(server.brokers()).is_ok();
        assert!(answers());
        server.pause();
        assert!(answers(), "the system still takes connections for it");
        server.resume();
        server.kill();
        assert!(!answers());
        server.restart();
        assert!(answers(), "at the same port");
        drop(server);
        assert!(!folder.exists(), "it is removed when dropped");
    }
}
