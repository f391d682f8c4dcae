//! mosquitto for the tests of devices: found, or installed.

use std::path::Path;

use anyhow::{Result, bail};

use crate::debian;

/// Where the package puts the server, which is not in everybody's PATH.
const SERVER: &str = "/usr/sbin/mosquitto";

/// Makes sure that there are a broker to start, and clients of its own. The tests start theirs, each on a port of its own.
pub(crate) fn ensure(_root: &Path) -> Result<()> {
    let what_for = "the tests of devices need mosquitto and its clients";
    if found() {
        return Ok(());
    }
    debian::install(&["mosquitto", "mosquitto-clients"], what_for)?;
    if !found() {
        bail!("{what_for}: the packages were installed, and still one of them is missing");
    }
    Ok(())
}

fn found() -> bool {
    let server = debian::find("mosquitto").is_some() || Path::new(SERVER).exists();
    let clients = ["mosquitto_pub", "mosquitto_sub"];
    let found = server && clients.iter().all(|name| debian::find(name).is_some());
    if found {
        eprintln!("found mosquitto with its clients");
    }
    found
}
