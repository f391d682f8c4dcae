//! Being told to stop.

use trunkline_core::{Error, Result};

/// Waits until the process is asked to stop: SIGINT (Ctrl-C) or SIGTERM. Called again, it waits for the next time.
///
/// # Errors
/// `Internal` when signals can't be waited for.
pub async fn stop_requested() -> Result<()> {
    let bad =
        |error: std::io::Error| Error::internal("signals can't be waited for").with_source(error);
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(bad)?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(bad),
        _ = terminate.recv() => Ok(()),
    }
}
