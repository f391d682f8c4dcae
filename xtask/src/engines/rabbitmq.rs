//! RabbitMQ for the tests: found, or installed.

use std::path::Path;

use anyhow::{Result, bail};

use crate::debian;

/// Where packages put the server's scripts; the tests look at the same places.
const SCRIPTS: [&str; 3] = [
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/opt/rabbitmq/sbin/rabbitmq-server",
    "/usr/local/sbin/rabbitmq-server",
];

/// Makes sure that there is a server to start. The tests start their own, each on ports of its own.
pub(crate) fn ensure(_root: &Path) -> Result<()> {
    let what_for = "the tests need RabbitMQ";
    if found() {
        return Ok(());
    }
    debian::install(&["rabbitmq-server"], what_for)?;
    if !found() {
        bail!("{what_for}: the package was installed, and still it is in none of {SCRIPTS:?}");
    }
    Ok(())
}

fn found() -> bool {
    let mut scripts = SCRIPTS.into_iter();
    let script = scripts.find(|script| Path::new(script).exists());
    script
        .inspect(|script| eprintln!("found {script}"))
        .is_some()
}
