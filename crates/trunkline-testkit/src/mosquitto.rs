//! A real MQTT broker for tests: mosquitto, from Debian's package.

use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;

use crate::{Child, free_port};

/// Where Debian puts the server, which is not in everybody's PATH.
const SERVER: [&str; 2] = ["mosquitto", "/usr/sbin/mosquitto"];
/// How long a server may take to start.
const START_MAX: Duration = Duration::from_secs(60);
/// MQTT 3.1.1's CONNECT of a client without a name.
const HELLO: &[u8] = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00";

/// A running broker on a port of its own, which keeps what it has over a restart. It is killed with the test.
pub struct Server {
    folder: TempDir,
    port: u16,
    child: Mutex<Option<Child>>,
}

impl Server {
    /// Starts a broker that lets everybody in.
    ///
    /// # Panics
    /// Loudly, when mosquitto is not installed or does not start.
    pub fn start() -> Self {
        Self::start_with("allow_anonymous true\n", &[])
    }

    /// Starts a broker with more settings, and files in its folder that these may name: `{folder}` in the settings stands
    /// for it.
    ///
    /// # Panics
    /// Loudly, when mosquitto is not installed or does not start.
    pub fn start_with(settings: &str, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("trunkline-mosquitto-")
            .tempdir()
            .expect("a folder for mosquitto");
        let port = free_port().expect("a free port");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("a file for mosquitto");
        }
        let path = folder.path().display().to_string();
        // As root it would become another user, who can't read the folder.
        let text = format!(
            "user root\nlistener {port} 127.0.0.1\npersistence true\npersistence_location {path}/\n\
             autosave_interval 1\nautosave_on_changes true\nmax_queued_messages 0\n{}",
            settings.replace("{folder}", &path)
        );
        std::fs::write(folder.path().join("mosquitto.conf"), text).expect("its settings");
        let server = Self {
            folder,
            port,
            child: Mutex::default(),
        };
        server.restart();
        server
    }

    /// Where it is: `mqtt://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.lock().as_ref().map(Child::id)
    }

    /// The folder of its data, settings and log.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Stops it where it stands (`SIGSTOP`); [`kill`](Self::kill) ends it.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pause(&self) {
        let id = self.id().expect("it runs").to_string();
        let mut kill = Command::new("kill");
        let stopped = kill.args(["-STOP", &id]).status();
        assert!(
            stopped.is_ok_and(|status| status.success()),
            "it is stopped"
        );
    }

    /// Kills it (`SIGKILL`).
    pub fn kill(&self) {
        drop(self.child.lock().take());
    }

    /// Starts it again after [`kill`](Self::kill), with the same port and data, and waits until it answers.
    ///
    /// # Panics
    /// Loudly, when mosquitto is not installed or does not start.
    pub fn restart(&self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("server.log"))
            .expect("a log for mosquitto");
        let mut command = Command::new(server());
        command
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        *self.child.lock() = Some(Child::spawn(&mut command).expect("mosquitto starts"));
        self.wait_until_ready();
    }

    /// Waits until it has written this to its disk: a moment after it took it.
    ///
    /// # Panics
    /// When it does not within seconds.
    pub fn wait_until_kept(&self, text: &str) {
        let file = self.folder.path().join("mosquitto.db");
        let is_kept = || {
            let kept = std::fs::read(&file).unwrap_or_default();
            kept.windows(text.len()).any(|part| part == text.as_bytes())
        };
        assert!(
            within(START_MAX, is_kept),
            "mosquitto did not keep `{text}`"
        );
    }

    fn wait_until_ready(&self) {
        if within(START_MAX, || self.answers()) {
            return;
        }
        let log = std::fs::read_to_string(self.folder.path().join("server.log"));
        panic!("mosquitto did not start:\n{}", log.unwrap_or_default());
    }

    /// Whether it answers a client, be it with a refusal.
    fn answers(&self) -> bool {
        let ask = || -> std::io::Result<u8> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(HELLO)?;
            let mut answer = [0];
            stream.read_exact(&mut answer)?;
            Ok(answer[0])
        };
        ask().is_ok_and(|kind| kind == 0x20)
    }
}

/// Whether something comes to hold within a time.
fn within(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let step = Duration::from_millis(10);
    for _ in 0..limit.as_millis() / step.as_millis() {
        if holds() {
            return true;
        }
        std::thread::sleep(step);
    }
    false
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

fn server() -> &'static str {
    let is_there = |name: &&&str| Command::new(name).arg("-h").output().is_ok();
    let found = SERVER.iter().find(is_there);
    found.expect("mosquitto is not installed. Install Debian's packages: apt-get install mosquitto mosquitto-clients")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(server: &Server, args: &[&str]) {
        let port = server.port().to_string();
        let mut command = Command::new("mosquitto_pub");
        command
            .args(["-h", "127.0.0.1", "-p", &port, "-q", "1"])
            .args(args);
        assert!(command.status().expect("mosquitto_pub").success());
    }

    #[test]
    fn a_server_keeps_what_it_took_over_a_kill() {
        let server = Server::start();
        publish(&server, &["-t", "a", "-m", "kept", "-r"]);
        server.wait_until_kept("kept");
        server.kill();
        assert!(!server.answers(), "it is dead");
        server.restart();
        let port = server.port().to_string();
        let mut command = Command::new("mosquitto_sub");
        command.args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-t",
            "a",
            "-C",
            "1",
            "-W",
            "10",
        ]);
        let output = command.output().expect("mosquitto_sub");
        assert_eq!(output.stdout, b"kept\n");
    }
}
