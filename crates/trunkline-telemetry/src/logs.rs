//! Log lines, for people or for programs.

mod json;
mod lines;
#[cfg(test)]
mod tests;

use std::io::IsTerminal;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use trunkline_core::{Error, Result};

use self::lines::Lines;

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

/// Sends log lines to standard error; only the first call of a process has an effect.
///
/// # Shape
/// A JSON line has `timestamp`, `level`, `target`, `message`, the event's own fields, and `service`,
/// `correlation_id` and `trace_id` of the [`Scope`](crate::Scope) that it was written in.
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
    // Another subscriber was set before: tests in one process do that, and it stays.
    drop(
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(format == Format::Human && std::io::stderr().is_terminal())
            .event_format(Lines::new(format))
            .try_init(),
    );
    Ok(())
}
