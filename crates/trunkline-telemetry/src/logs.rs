//! Log lines, for people or for programs.

use std::io::IsTerminal;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use trunkline_core::{Error, Result};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A line for people.
    #[default]
    Human,
    /// A JSON object a line.
    Json,
}

/// Sends log lines to standard error. Only the first call of a process has an effect.
///
/// # Errors
/// `InvalidInput` for a filter that can't be understood; `info,trunkline_bus=debug` is one that can.
pub fn init_logs(format: Format, filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Error::invalid(
            "log_filter_invalid",
            "expected a filter such as `info,trunkline_bus=debug`",
        )
        .with("filter", filter)
        .with_source(error)
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // Another subscriber was set before: tests in one process do that, and it stays.
    let set = match format {
        Format::Human => lines
            .with_ansi(std::io::stderr().is_terminal())
            .compact()
            .try_init(),
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
    };
    drop(set);
    Ok(())
}
