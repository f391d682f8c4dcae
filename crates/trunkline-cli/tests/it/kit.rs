//! An admin API that answers what it is told, and remembers what it was asked.

use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinSet;

pub(crate) struct Admin {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _server: JoinSet<()>,
}

impl Admin {
    /// Answers every request with this.
    pub(crate) async fn start(status: u16, answer: Value) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let answer = move |request: Request| {
            let (log, answer) = (log.clone(), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, 1 << 20).await.unwrap();
                let token = parts.headers.get("authorization");
                let token = token.map_or("", |token| token.to_str().unwrap());
                let line = format!(
                    "{} {} {} {token}",
                    parts.method,
                    parts.uri,
                    String::from_utf8_lossy(&body)
                );
                log.lock().unwrap().push(line.trim_end().to_owned());
                let mut response = Response::new(Body::from(answer.to_string()));
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                response
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move {
            axum::serve(listener, Router::new().fallback(answer))
                .await
                .unwrap();
        });
        Self {
            address,
            asked,
            _server: server,
        }
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Runs the command against it.
    pub(crate) async fn run(&self, args: &[&str]) -> Ran {
        let admin = format!("http://{}", self.address);
        let mut all = vec!["--admin", &admin];
        all.extend(args);
        run(&all).await
    }
}

/// What the command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) async fn run(args: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_trunkline"))
        .args(args)
        .env_remove("TRUNKLINE_ADMIN")
        .env_remove("TRUNKLINE_ADMIN_TOKEN")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    Ran {
        code: status.code(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}
