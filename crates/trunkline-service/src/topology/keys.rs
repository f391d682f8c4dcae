//! Where the keys are that verify tokens.

use trunkline_core::{Error, Result};

use crate::config::place::GATEWAY;
use crate::{Config, Service};

/// Checks that whoever is called here from other processes can fetch their keys, and that the others can fetch ours.
///
/// # Errors
/// `InvalidInput` naming the service whose place is missing, and who asks for its keys.
pub(crate) fn check(
    config: &Config,
    services: &[Service],
    gateway: Option<&trunkline_gateway::Config>,
) -> Result<()> {
    if !config.signs() {
        return Ok(());
    }
    let calls = services.iter().flat_map(|service| {
        let targets = service.calls.iter();
        targets.map(|target| (&*service.name, &**target))
    });
    let led_to = gateway.into_iter().flat_map(|gateway| &gateway.services);
    let led_to = led_to.map(|service| (GATEWAY, &*service.name));
    for (caller, target) in calls.chain(led_to) {
        match (config.runs(caller), config.runs(target)) {
            (true, false) if config.listen_of(caller)?.is_none() => {
                return Err(missing("listen", caller, target));
            }
            (false, true)
                if config.listen_of(target)?.is_some() && config.place_of(caller)?.is_none() =>
            {
                return Err(missing("url", caller, target));
            }
            _ => {}
        }
    }
    Ok(())
}

fn missing(key: &str, caller: &str, target: &str) -> Error {
    let text = format!(
        "expected `{key}` in [service.{caller}]: those whom it calls in other processes fetch its keys there"
    );
    Error::invalid("service_place_unknown", text).with("called", target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let config = Config::load(Some(file.path()), []).unwrap();
        let services = [Service::new("orders").calls("stock"), Service::new("stock")];
        let checked = check(&config, &services, None);
        checked.map_or_else(|error| error.to_string(), |()| "well".to_owned())
    }

    #[test]
    fn keys_have_a_place_on_both_sides() {
        let elsewhere = "[service.stock]\nurl = \"http://h:1\"\n";
        assert_eq!(said(elsewhere), "well", "nobody asks for keys");
        let signed = format!("{elsewhere}[identity]\n");
        assert!(said(&signed).contains("`listen` in [service.orders]"));
        let listens = format!("{signed}[service.orders]\nlisten = \"127.0.0.1:0\"\n");
        assert_eq!(said(&listens), "well");
        let called = "run = \"stock\"\n[tls]\n[service.stock]\nlisten = \"127.0.0.1:0\"\n";
        assert!(said(called).contains("`url` in [service.orders]"));
        let known = format!("{called}[service.orders]\nurl = \"http://h:1\"\n");
        assert_eq!(said(&known), "well");
        assert_eq!(said("[tls]\n"), "well", "all in one process");
    }
}
