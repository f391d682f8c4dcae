//! A service while it runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use trunkline_call::{Network, Responses};
use trunkline_core::{ByteString, Env};
use trunkline_store::Store;
use trunkline_telemetry::Telemetry;

use crate::Config;
use crate::service::States;

/// What the handlers of one running service share.
pub(crate) struct Runtime {
    pub(crate) name: ByteString,
    pub(crate) responses: Responses,
    pub(crate) store: Store,
    pub(crate) network: Network,
    pub(crate) env: Env,
    pub(crate) calls: BTreeSet<ByteString>,
    pub(crate) publishes: BTreeSet<&'static str>,
    pub(crate) states: States,
    pub(crate) config: Arc<Config>,
    pub(crate) telemetry: Telemetry,
    /// What its handlers share of its devices.
    #[cfg(feature = "device")]
    pub(crate) devices: Option<crate::device::Hub>,
}

impl Runtime {
    /// Work is committed that may have touched commands to devices.
    pub(crate) fn committed(&self) {
        #[cfg(feature = "device")]
        if let Some(devices) = &self.devices {
            devices.committed();
        }
    }
}
