//! Node.js for the tests, with the official client of Socket.IO from npm, and a browser that it moves.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::debian;

/// Packages, each pinned, so that the tests are the same everywhere.
const PACKAGES: [&str; 2] = ["socket.io-client@4.8.4", "playwright-core@1.65.1"];

/// Makes sure that there are Node.js and Chromium, and the packages in `target/engines/node`.
pub(crate) fn ensure(root: &Path) -> Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let home = target
        .unwrap_or_else(|| root.join("target"))
        .join("engines/node");
    let done = home.join("PACKAGES");
    let wanted = PACKAGES.join("\n");
    let has = |program: &str| {
        let asked = Command::new(program).arg("--version").output();
        asked.is_ok_and(|answer| answer.status.success())
    };
    if !has("node") || !has("npm") {
        debian::install(&["nodejs", "npm"], "the tests need Node.js with npm")?;
    }
    if debian::find("chromium").is_none() {
        debian::install(&["chromium"], "the tests need a browser")?;
    }
    if std::fs::read_to_string(&done).is_ok_and(|found| found == wanted) {
        eprintln!("found {}", home.display());
        return Ok(());
    }
    eprintln!("installing npm's {}", PACKAGES.join(", "));
    std::fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
    let status = Command::new("npm")
        .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
        .arg(&home)
        .args(PACKAGES)
        .stdin(Stdio::null())
        .status()
        .context("npm")?;
    if !status.success() {
        bail!("npm could not install {}: {status}", PACKAGES.join(", "));
    }
    std::fs::write(&done, wanted).with_context(|| format!("writing {}", done.display()))
}
