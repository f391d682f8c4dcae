//! PostgreSQL for the tests: found, or installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

const HOME: &str = "/usr/lib/postgresql";

/// Makes sure that there is a server to start. The tests start their own, on a socket of its own.
pub(crate) fn ensure() -> Result<()> {
    if let Some(found) = find(Path::new(HOME)) {
        eprintln!("found {}", found.display());
        return Ok(());
    }
    let missing = "the tests need PostgreSQL's server, in Debian the package `postgresql`";
    if !is_root()? || !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "{missing}: there is no {HOME}/*/bin/postgres, and only root can install it with apt-get"
        );
    }
    eprintln!("installing Debian's package `postgresql`");
    apt(&["update"]).context(missing)?;
    apt(&["install", "--yes", "--no-install-recommends", "postgresql"]).context(missing)?;
    match find(Path::new(HOME)) {
        Some(_) => Ok(()),
        None => bail!(
            "{missing}: the package was installed, and still there is no {HOME}/*/bin/postgres"
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

fn is_root() -> Result<bool> {
    let id = Command::new("id").arg("-u").output().context("id -u")?;
    Ok(id.stdout.trim_ascii() == b"0")
}

fn apt(args: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status()
        .context("apt-get")?;
    if !status.success() {
        bail!("apt-get {} failed: {status}", args.join(" "));
    }
    Ok(())
}
