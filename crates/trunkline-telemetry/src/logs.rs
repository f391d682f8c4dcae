//! Log lines, for people or for programs.

mod behind;
mod json;
mod lines;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use trunkline_core::{Error, Result};

pub use self::behind::LogWriter;
use self::behind::{Behind, Bounds};
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
    init(format, filter, io::stderr).map(drop)
}

/// Sends log lines to standard error as [`init_logs`] does, by a thread of its own: nobody waits for a log, and many lines cost
/// one system call.
///
/// # Guarantees
/// Lines are written in their order. A line waits at most 50 ms for others, a warning or an error for none. At most 4 MiB are held,
/// and 256 KiB more of warnings and errors; what is beyond is dropped, counted (`trunkline_log_lines_dropped_total`) and
/// said once for each batch. What is held is written when the writer is dropped and when a thread panics. A process
/// that is killed loses what is held: some 50 ms of lines, more only where standard error takes them too slowly.
///
/// # Errors
/// As [`init_logs`], and `Internal` where there can be no more threads.
pub fn init_logs_behind(format: Format, filter: &str) -> Result<LogWriter> {
    let writer = LogWriter(Behind::start(format, Bounds::default(), io::stderr())?);
    if init(format, filter, writer.0.clone())? {
        writer.0.write_on_panic();
    }
    Ok(writer)
}

/// Whether it was the first.
fn init<W>(format: Format, filter: &str, writer: W) -> Result<bool>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Error::invalid(
            "log_filter_invalid",
            "expected a filter such as `info,trunkline_bus=debug`",
        )
        .with("filter", filter)
        .with_source(error)
    })?;
    // Where another subscriber was set before, as tests in one process do, that one stays.
    let begun = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(format == Format::Human && io::stderr().is_terminal())
        .event_format(Lines::new(format))
        .try_init();
    Ok(begun.is_ok())
}
