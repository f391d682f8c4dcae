//! Programs from Debian's packages.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Where a program is, if it is in the PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.exists())
}

/// Installs packages, without those that they only recommend; `what_for` says who wants them.
pub(crate) fn install(packages: &[&str], what_for: &str) -> Result<()> {
    let told = || {
        format!(
            "{what_for}, in Debian the package `{}`",
            packages.join("` and `")
        )
    };
    if !is_root()? || !Path::new("/usr/bin/apt-get").exists() {
        bail!("{}, which only root can install with apt-get", told());
    }
    eprintln!("installing Debian's {}", packages.join(", "));
    apt(&["update"]).with_context(told)?;
    let install = ["install", "--yes", "--no-install-recommends"];
    apt(&[&install, packages].concat()).with_context(told)
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
