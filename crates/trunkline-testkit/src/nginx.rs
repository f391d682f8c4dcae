//! A real nginx for tests, from Debian's package.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::{Child, free_port};

/// Where Debian puts the server, which is not in everybody's PATH.
const SERVER: [&str; 2] = ["nginx", "/usr/sbin/nginx"];
/// How long a server may take to start.
const START_MAX: Duration = Duration::from_secs(60);

/// A running nginx on a port of its own. It is killed with the test.
pub struct Server {
    folder: TempDir,
    port: u16,
    _child: Child,
}

impl Server {
    /// Starts a server with these settings inside of its `http` block, in which `{port}` stands for its port.
    ///
    /// # Panics
    /// Loudly, when nginx is not installed or does not start.
    pub fn start(settings: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("trunkline-nginx-")
            .tempdir()
            .expect("a folder for nginx");
        let port = free_port().expect("a free port");
        let path = folder.path().display().to_string();
        let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temp: String = temp
            .iter()
            .map(|name| format!("{name}_temp_path {path}/{name};\n"))
            .collect();
        let settings = settings.replace("{port}", &port.to_string());
        // As root it would become another user, who can't read the folder.
        let text = format!(
            "user root;\ndaemon off;\nmaster_process off;\npid {path}/pid;\nerror_log {path}/error.log;\n\
             events {{ worker_connections 256; }}\nhttp {{\naccess_log off;\n{temp}{settings}\n}}\n"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, text).expect("its settings");
        let log = std::fs::File::create(folder.path().join("server.log")).expect("a log for nginx");
        let mut command = Command::new(server());
        command.arg("-p").arg(folder.path()).arg("-c").arg(&file);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        let server = Self {
            _child: Child::spawn(&mut command).expect("nginx starts"),
            folder,
            port,
        };
        server.wait_until_ready();
        server
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    fn wait_until_ready(&self) {
        let step = Duration::from_millis(10);
        for _ in 0..START_MAX.as_millis() / step.as_millis() {
            if TcpStream::connect(self.address()).is_ok() {
                return;
            }
            std::thread::sleep(step);
        }
        let log = |name: &str| std::fs::read_to_string(self.folder.path().join(name));
        let told = [log("server.log"), log("error.log")].map(Result::unwrap_or_default);
        panic!("nginx did not start:\n{}", told.join("\n"));
    }
}

fn server() -> &'static str {
    let is_there = |name: &&&str| Command::new(name).arg("-v").output().is_ok();
    let found = SERVER.iter().find(is_there);
    found.expect("nginx is not installed. Install Debian's package: apt-get install nginx-light")
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}
