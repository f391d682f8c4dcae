//! The store in several processes: one part, or all of them beside each other.

use std::process::Command;

use storefront::{Store, payment};
use tokio::time::Instant;
use trunkline::{
    Env, Error, Notice, Result, Secret, Signer, parent_gone, stop_requested, telemetry,
};

use crate::{cli, print, watch, welcome};

/// The part that leads requests to the others.
const GATEWAY: &str = "gateway";

/// Runs some parts until the process is asked to stop.
pub(crate) async fn run(options: cli::Run) -> Result<()> {
    let begun = Instant::now();
    let (quiet, with_parent) = (options.up.quiet, options.with_parent);
    let settings = options.settings();
    let config = settings.load()?;
    telemetry::init_logs(config.log.format, &config.log.filter)?;
    let names = config.run.clone();
    let store = Store::start_platform(settings, config, |platform| platform).await?;
    for name in &names {
        print(&up_line(&store, name, begun))?;
    }
    let leads = store.running().gateway_address().is_some();
    if leads && !quiet {
        print(&welcome::text(&store, begun.elapsed())?)?;
    }
    let stop = async {
        tokio::select! {
            asked = stop_requested() => asked,
            () = parent_gone(), if with_parent => Ok(()),
        }
    };
    watch(&store, quiet || !leads, stop).await?;
    tokio::select! {
        biased;
        again = stop_requested() => again,
        () = store.shutdown() => Ok(()),
    }
}

fn up_line(store: &Store, name: &str, begun: Instant) -> String {
    let running = store.running();
    let address = match name {
        GATEWAY => running.gateway_address(),
        name => running.service_address(name),
    };
    let place = address.map_or_else(String::new, |address| format!(" on {address}"));
    format!("{name} is up{place} after {:.2?}\n", begun.elapsed())
}

/// Runs every part in a process of its own until this one is asked to stop.
pub(crate) async fn up(options: cli::Up) -> Result<()> {
    let program = std::env::current_exe()
        .map_err(|error| Error::internal("this program is not found").with_source(error))?;
    let env = Env::system();
    let platform = storefront::platform(&Signer::hs256(&Secret::generate(&env)), &env)?;
    let command = |name: &str| {
        let mut command = Command::new(&program);
        command.args(["run", name, "--with-parent"]);
        let mut give = |flag: &str, value: Option<String>| {
            command.args(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
        };
        give(
            "--data",
            options.data.as_ref().map(|path| path.display().to_string()),
        );
        give(
            "--config",
            options
                .config
                .as_ref()
                .map(|path| path.display().to_string()),
        );
        if name == GATEWAY {
            give("--gateway", options.gateway.map(|at| at.to_string()));
            give("--admin", options.admin.map(|at| at.to_string()));
        }
        if name == payment::NAME {
            give("--provider", options.provider.clone());
            give("--sandbox", options.sandbox.map(|at| at.to_string()));
        }
        if options.quiet {
            command.arg("--quiet");
        }
        command
    };
    let config = options.settings().load()?;
    telemetry::init_logs(config.log.format, &config.log.filter)?;
    let processes = platform.processes(&config, command)?;
    let stop = async {
        if let Err(error) = stop_requested().await {
            tracing::warn!(%error, "signals can't be waited for");
        }
    };
    // What can't be printed has nobody who reads it.
    processes
        .run(stop, |notice| drop(print(&line(&notice))))
        .await
}

fn line(notice: &Notice) -> String {
    match notice {
        // What the gateway's process says is what the store says.
        Notice::Line { part, line, .. } if part == GATEWAY => format!("{line}\n"),
        Notice::Line { part, line, .. } if !line.starts_with(&format!("{part} is up")) => {
            format!("{part}: {line}\n")
        }
        Notice::Line { line, .. } => format!("{line}\n"),
        Notice::Ended { .. } => format!("{notice}\n"),
        _ => String::new(),
    }
}
