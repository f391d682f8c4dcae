//! A service while it runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use trunkline_call::{Network, Responses};
use trunkline_core::{ByteString, Env, Envelope, Result};
use trunkline_security::{Audit, EventSealer};
use trunkline_store::{AuditLog, Projections, Store};
use trunkline_telemetry::{Health, Telemetry};

use crate::namespace::Sockets;
use crate::saga::Sagas;
use crate::service::States;
use crate::{Config, sealing};

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
    pub(crate) sealer: Option<EventSealer>,
    /// Takes refusals; never waits.
    pub(crate) audit: Audit,
    /// Takes changes, together with their rows.
    pub(crate) audit_log: AuditLog,
    /// How it is.
    pub(crate) health: Health,
    /// The engine of its sagas, while it is up.
    pub(crate) sagas: Sagas,
    /// What it makes of the events of its aggregates.
    pub(crate) projections: Projections,
    /// Its namespaces, while it is up.
    pub(crate) sockets: Sockets,
    /// What its handlers share of its devices.
    #[cfg(feature = "device")]
    pub(crate) devices: Option<crate::device::Hub>,
}

impl Runtime {
    /// Seals an event that is declared as encrypted. The start has made sure that there are keys.
    pub(crate) fn seal(&self, event: &mut Envelope) -> Result<()> {
        match &self.sealer {
            Some(sealer) => sealer.seal(event),
            None => Err(sealing::no_keys(&event.event_type)),
        }
    }

    /// Opens an event that is sealed; one that is declared as encrypted has to be.
    pub(crate) fn open(&self, event: &mut Envelope, must: bool) -> Result<()> {
        let opened = match &self.sealer {
            Some(sealer) => sealer.open(event, must),
            None if must || event.is_sealed() => Err(sealing::no_keys(&event.event_type)),
            None => Ok(()),
        };
        opened.inspect_err(|error| {
            let object = format!("{} {}", event.event_type, event.id);
            self.audit
                .refused(&event.source, "event.open", &object, error);
        })
    }

    /// Work is committed that touched commands to devices, or sagas.
    pub(crate) fn committed(&self) {
        self.sagas.poke();
        #[cfg(feature = "device")]
        if let Some(devices) = &self.devices {
            devices.committed();
        }
    }
}
