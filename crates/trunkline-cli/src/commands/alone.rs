//! A gateway that runs alone.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use trunkline_call::server::serve;
use trunkline_core::{Env, Error, report};
use trunkline_gateway::{AloneRunning, Gateway};
use trunkline_security::AdminToken;
use trunkline_telemetry::{Check as _, Format, Otlp, Telemetry, init_logs_behind, prometheus};

use super::{Done, Failure};
use crate::args::Alone;

/// What is recorded when it ends gets so long to be sent.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);

/// Runs until Ctrl-C or SIGTERM, and ends when every request that was begun has its answer; a second Ctrl-C ends it at once.
pub(super) async fn run(alone: Alone, token: Option<String>) -> Done {
    let format = if alone.log_json {
        Format::Json
    } else {
        Format::Human
    };
    // Until the end: dropped, it writes what it holds.
    let _logs = init_logs_behind(format, &alone.log).map_err(broken)?;
    let token = token.map(AdminToken::new).transpose().map_err(usage)?;
    if token.is_none() && !alone.admin_listen.ip().is_loopback() {
        let address = alone.admin_listen;
        let text =
            format!("the admin API at {address} can be reached from outside: give it a --token");
        return Err(Failure::Usage(text));
    }
    let registry = prometheus::install().map_err(broken)?;
    let env = Env::system();
    let otlp = alone
        .otlp
        .as_deref()
        .map(Otlp::to)
        .transpose()
        .map_err(usage)?;
    let telemetry = match &otlp {
        Some(otlp) => Telemetry::new(env.clone()).with_sink(std::sync::Arc::new(otlp.clone())),
        None => Telemetry::disabled(env.clone()),
    };
    // Asked for before anything is served: a stop is never missed.
    let mut stops = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let admin = TcpListener::bind(alone.admin_listen).await;
    let admin = admin.with_context(|| format!("{} can't be listened at", alone.admin_listen))?;
    let running = settings(&alone)?.start(telemetry, env).map_err(broken)?;
    welcome(&running, &admin)?;
    let (stop, mut stopping) = watch::channel(false);
    let router = router(&running, token, registry);
    let mut admin_door = JoinSet::new();
    admin_door.spawn(serve(admin, router, async move {
        drop(stopping.wait_for(|stop| *stop).await);
    }));
    stopped(&mut stops).await?;
    drop(writeln!(
        io::stdout(),
        "the gateway ends what it has begun; Ctrl-C again stops it at once"
    ));
    tokio::select! {
        biased;
        () = running.shutdown() => {}
        again = stopped(&mut stops) => return again,
    }
    stop.send_replace(true);
    while admin_door.join_next().await.is_some() {}
    if let Some(otlp) = otlp {
        otlp.flush(FLUSH_WITHIN).await;
    }
    Ok(())
}

fn settings(alone: &Alone) -> Result<trunkline_gateway::Alone, Failure> {
    let file = alone.config.clone().ok_or_else(|| {
        Failure::Usage("expected --config FILE, a Kong file; `trunkline gateway check FILE` tells what is wrong with one".to_owned())
    })?;
    let mut settings = trunkline_gateway::Alone::new(file, alone.listen.iter().copied());
    settings.listen_tls.clone_from(&alone.listen_tls);
    settings.writes = alone.write_back;
    if let Some(workers) = alone.workers {
        settings.workers = workers.get();
    }
    Ok(settings)
}

fn welcome(running: &AloneRunning, admin: &TcpListener) -> io::Result<()> {
    let mut out = io::stdout();
    for address in running.addresses() {
        writeln!(out, "gateway on http://{address}")?;
    }
    for address in running.tls_addresses() {
        writeln!(out, "gateway on https://{address}")?;
    }
    writeln!(out, "admin API on http://{}", admin.local_addr()?)?;
    out.flush()
}

/// The admin API, with metrics and health beside it.
fn router(
    running: &AloneRunning,
    token: Option<AdminToken>,
    registry: prometheus::Registry,
) -> Router {
    const TEXT: [(http::HeaderName, &str); 1] = [(CONTENT_TYPE, "text/plain; version=0.0.4")];
    let health = Router::new()
        .route("/health", get(health))
        .with_state(running.gateway().clone());
    let metrics = get(move || async move { (TEXT, registry.render()) });
    let metrics = Router::new().route("/metrics", metrics);
    running.keeper().router(metrics, token).merge(health)
}

async fn health(State(gateway): State<Gateway>) -> (StatusCode, &'static str) {
    match gateway.check().await {
        Ok(()) => (StatusCode::OK, "healthy"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "not serving"),
    }
}

async fn stopped(stops: &mut [io::Result<Signal>; 2]) -> Done {
    match stops {
        [Ok(interrupt), Ok(terminate)] => {
            tokio::select! {
                _ = interrupt.recv() => Ok(()),
                _ = terminate.recv() => Ok(()),
            }
        }
        _ => Err(Failure::Broken(anyhow::Error::msg(
            "signals can't be waited for",
        ))),
    }
}

fn broken(error: Error) -> Failure {
    Failure::Broken(anyhow::Error::msg(report(&error).to_string()))
}

fn usage(error: Error) -> Failure {
    Failure::Usage(report(&error).to_string())
}
