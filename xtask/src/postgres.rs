//! PostgreSQL for the tests: found, or installed.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::debian;

const HOME: &str = "/usr/lib/postgresql";

/// Makes sure that there is a server to start. The tests start their own, on a socket of its own.
pub(crate) fn ensure() -> Result<()> {
    if let Some(found) = find(Path::new(HOME)) {
        eprintln!("found {}", found.display());
        return Ok(());
    }
    let what_for = "the tests need PostgreSQL's server";
    debian::install(&["postgresql"], what_for)?;
    match find(Path::new(HOME)) {
        Some(_) => Ok(()),
        None => bail!(
            "{what_for}: the package was installed, and still there is no {HOME}/*/bin/postgres"
        ),
    }
}

fn find(home: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(home).ok()?;
    let mut servers = versions.filter_map(|version| {
        let server = version.ok()?.path().join("bin/postgres");
        server.exists().then_some(server)
    });
    servers.next()
}
