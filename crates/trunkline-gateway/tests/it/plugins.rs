//! Plugins as Kong's file has them, each in front of a service that tells what it got.

mod cache;
mod consumers_tokens;
mod doors;
mod file_log;
mod http_log;
mod issuer;
mod keys;
mod kong;
mod metrics;
mod openapi;
mod own;
mod settings;
mod shared_limits;
mod traces;
mod validator;

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use trunkline_gateway::{Config, Limits};

use crate::kit::{Kit, echo, start, start_with};

/// A gateway for a file whose one service is `echo`.
async fn gateway(text: &str) -> Kit {
    start(read(text)).await
}

/// The same that lets go of its connections at once when it is told to stop.
async fn short_lived(text: &str) -> Kit {
    let mut limits = Limits::default();
    limits.linger = Duration::from_millis(10);
    start_with(read(text), echo(), limits).await
}

fn read(text: &str) -> Config {
    let config = Config::parse("kong.yml", text);
    config.unwrap_or_else(|error| panic!("{error}"))
}

/// A server of somebody else's: its URL, and what keeps it.
async fn serve(router: axum::Router) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, server)
}
