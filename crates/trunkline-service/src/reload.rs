//! How services are called, read again while the platform runs.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use trunkline_call::Network;
use trunkline_call::policy::Policies;
use trunkline_core::{Error, Result, report};

use crate::{Config, Service};

/// What the services declare of themselves, and what the configuration says of them.
pub(crate) fn policies(config: &Config, services: &[Service]) -> Result<Policies> {
    let mut policies = config.call.clone();
    for service in services {
        policies = policies.declare(service.name.to_string(), service.declared()?);
    }
    Ok(policies)
}

/// Asks to be told of SIGHUP, from now on.
pub(crate) fn hangups() -> Result<Signal> {
    signal(SignalKind::hangup())
        .map_err(|error| Error::internal("signals can't be waited for").with_source(error))
}

/// Reads the configuration's `[call]` again at each SIGHUP, until `stop`. What can't be read is told in the log, and
/// what was before goes on.
pub(crate) async fn follow(
    mut hangups: Signal,
    config: Arc<Config>,
    network: Network,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            hangup = hangups.recv() => {
                if hangup.is_none() {
                    return;
                }
            }
        }
        let before = network.policies();
        match config.load_again() {
            Ok(read) => {
                network.set_policies(before.configured_by(&read.call));
                tracing::info!("calls are made by the policies that were read again");
            }
            Err(error) => {
                tracing::error!(error = %report(&error), "the configuration can't be read again: calls are made as before");
            }
        }
    }
}
