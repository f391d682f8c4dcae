//! nginx, which the gateway is compared with in tests: found, or installed.

use std::path::Path;

use anyhow::{Result, bail};

use crate::debian;

/// Where the package puts the server, which is not in everybody's PATH.
const SERVER: &str = "/usr/sbin/nginx";

/// Makes sure that there is a server to start. The tests start theirs, each on a port of its own.
pub(crate) fn ensure(_root: &Path) -> Result<()> {
    let what_for = "the tests of the gateway compare it with nginx";
    if found() {
        return Ok(());
    }
    debian::install(&["nginx-light"], what_for)?;
    if !found() {
        bail!("{what_for}: the package was installed, and still there is none");
    }
    Ok(())
}

fn found() -> bool {
    let found = debian::find("nginx").is_some() || Path::new(SERVER).exists();
    if found {
        eprintln!("found nginx");
    }
    found
}
