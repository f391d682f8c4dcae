//! The ERP in several processes: one part, or all of them beside each other.

use std::process::Command;

use retail_erp::{Erp, payment};
use tokio::time::Instant;
use trunkline::{Error, Notice, Result, parent_gone, stop_requested, telemetry};

use crate::{cli, print, welcome};

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
    let erp = Erp::start_platform(&settings, config, |platform| platform).await?;
    let running = erp.running();
    for name in &names {
        let address = match name.as_str() {
            GATEWAY => running.gateway_address(),
            name => running.service_address(name),
        };
        let place = address.map_or_else(String::new, |address| format!(" on {address}"));
        print(&format!(
            "{name} is up{place} after {:.2?}\n",
            begun.elapsed()
        ))?;
    }
    if running.gateway_address().is_some() && !quiet {
        print(&welcome(&erp)?)?;
    }
    tokio::select! {
        asked = stop_requested() => asked?,
        () = parent_gone(), if with_parent => {}
    }
    tokio::select! {
        biased;
        again = stop_requested() => again,
        () = erp.shutdown() => Ok(()),
    }
}

/// Runs every part in a process of its own until this one is asked to stop.
pub(crate) async fn up(options: cli::Up) -> Result<()> {
    let program = std::env::current_exe()
        .map_err(|error| Error::internal("this program is not found").with_source(error))?;
    let config = options.settings().load()?;
    telemetry::init_logs(config.log.format, &config.log.filter)?;
    let platform = retail_erp::platform(&config);
    let processes = platform.processes(&config, |name| command(&program, name, &options))?;
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

/// The program of one part: this one, told the same and only what concerns the part.
fn command(program: &std::path::Path, name: &str, options: &cli::Up) -> Command {
    let mut command = Command::new(program);
    command.args(["run", name, "--with-parent"]);
    let mut give = |flag: &str, value: Option<String>| {
        command.args(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
    };
    let path = |path: &std::path::PathBuf| path.display().to_string();
    give("--data", options.data.as_ref().map(path));
    give("--config", options.config.as_ref().map(path));
    if name == GATEWAY {
        give("--gateway", options.gateway.map(|at| at.to_string()));
        give("--admin", options.admin.map(|at| at.to_string()));
    }
    if name == payment::NAME {
        give("--swishpay", options.swishpay.clone());
        give("--sandbox", options.sandbox.map(|at| at.to_string()));
    }
    if options.quiet {
        command.arg("--quiet");
    }
    command
}

fn line(notice: &Notice) -> String {
    match notice {
        Notice::Line { part, line, .. } if line.starts_with(&format!("{part} is up")) => {
            format!("{line}\n")
        }
        // What the gateway's process says is what the ERP says.
        Notice::Line { part, line, .. } if part == GATEWAY => format!("{line}\n"),
        Notice::Line { part, line, .. } => format!("{part}: {line}\n"),
        Notice::Ended { .. } => format!("{notice}\n"),
        _ => String::new(),
    }
}
