//! The engines that the log is measured against, each running the same [`Flow`](crate::flow::Flow).

pub mod bare;
pub mod embedded;
#[cfg(feature = "peers")]
pub mod fjall;
pub mod nats;
pub mod redis;
#[cfg(feature = "peers")]
pub mod sqlite;
pub mod trunkline;

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How an engine is run.
#[derive(Debug, Clone)]
pub struct Setup {
    /// An empty folder of its own.
    pub dir: PathBuf,
    /// How many events may be in flight.
    pub window: u64,
    /// How many are published at once.
    pub batch: u64,
    /// Whether a publish is confirmed only after a sync.
    pub synced: bool,
    /// Before measuring.
    pub warm_up: Duration,
    /// While measuring.
    pub measured: Duration,
}

/// The result of a run, or why there is none.
pub type Outcome = Result<serde_json::Value, Box<dyn std::error::Error>>;

/// A server of its own for one run; it ends with this value.
#[derive(Debug)]
pub struct Server {
    process: Child,
    /// Where it listens, on loopback.
    pub port: u16,
}

impl Server {
    /// Starts a program that `command` makes for a free port, and waits until it accepts connections.
    ///
    /// # Errors
    /// It could not be started, or does not answer within ten seconds.
    pub fn start(command: impl FnOnce(u16) -> Command) -> std::io::Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let process = command(port)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Self { process, port };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(std::io::Error::other("the server does not answer"))
    }

    /// Its process, whose CPU time counts too.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
