//! The keys that seal the data of events.

use trunkline_core::{Env, Error, Result};
use trunkline_security::{EventSealer, Keyring};

use crate::{Config, Service};

/// What seals and opens events, if the configuration names keys.
///
/// # Errors
/// As [`Keyring::load`]; `InvalidInput` where a service of this process publishes or handles an event that is declared
/// as encrypted, and there are no keys.
pub(crate) fn open(
    config: &Config,
    services: &[Service],
    env: &Env,
) -> Result<Option<EventSealer>> {
    if let Some(keys) = &config.keys {
        let variable = |name: &str| std::env::var(name).ok();
        let ring = Keyring::load(keys, variable, env.clone())
            .map_err(|error| error.with("section", "keys"))?;
        let sealer = EventSealer::new(ring).accept_unsealed(keys.accept_unsealed);
        return Ok(Some(sealer));
    }
    let here = services.iter().filter(|service| config.runs(&service.name));
    let mut encrypted = here.flat_map(|service| {
        let events = service.events().filter(|decl| decl.encrypted);
        events.map(move |decl| (service, decl.event_type))
    });
    match encrypted.next() {
        Some((service, event_type)) => Err(no_keys(event_type).with("service", &service.name)),
        None => Ok(None),
    }
}

/// The error of an event that needs keys where none are configured.
pub(crate) fn no_keys(event_type: &str) -> Error {
    let text = "events of this type are encrypted: expected [keys] in the configuration";
    Error::invalid("keys_missing", text).with("event", event_type)
}
