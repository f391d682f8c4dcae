//! Every part of a platform in a process of its own.

use std::ffi::OsString;
use std::process::Command;

use trunkline_core::{Error, Result};

use super::{Program, options, print};
use crate::config::place::GATEWAY;
use crate::{Config, Notice, stop_requested};

/// Runs them until this process is asked to stop.
pub(super) async fn run<P: Program>(config: &Config, given: &[OsString]) -> Result<()> {
    let program = std::env::current_exe()
        .map_err(|error| Error::internal("this program is not found").with_source(error))?;
    let processes = P::platform(config)?.processes(config, |name| {
        let mut command = Command::new(&program);
        command.args(options::of_part(name, given));
        command
    })?;
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
        // What the gateway's process says is what the platform says.
        Notice::Line { part, line, .. } if part == GATEWAY => format!("{line}\n"),
        Notice::Line { part, line, .. } if !line.starts_with(&format!("{part} is up")) => {
            format!("{part}: {line}\n")
        }
        Notice::Line { line, .. } => format!("{line}\n"),
        Notice::Ended { .. } => format!("{notice}\n"),
        Notice::Up { .. } | Notice::AllUp => String::new(),
    }
}
