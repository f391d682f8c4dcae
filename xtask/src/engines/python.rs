//! Python, with the clients that speak to the engines without Trunkline.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::debian;

/// Clients, each pinned, so that the tests are the same everywhere.
const CLIENTS: [&str; 9] = [
    "redis==5.2.1",
    "aio-pika==9.5.5",
    "kafka-python==2.2.15",
    "nats-py==2.10.0",
    "paho-mqtt==2.1.0",
    "grpcio==1.71.0",
    "grpcio-health-checking==1.71.0",
    "grpcio-reflection==1.71.0",
    "kubernetes-validate==1.37.0",
];

/// Makes an environment of its own in `target/engines/python`.
pub(crate) fn ensure(root: &Path) -> Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let home = target
        .unwrap_or_else(|| root.join("target"))
        .join("engines/python");
    let done = home.join("CLIENTS");
    let wanted = CLIENTS.join("\n");
    if std::fs::read_to_string(&done).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    let what_for = "the tests need Python with its module `venv`";
    let has_venv = || {
        let asked = Command::new("python3")
            .args(["-c", "import ensurepip, venv"])
            .output();
        asked.is_ok_and(|answer| answer.status.success())
    };
    if !has_venv() {
        debian::install(&["python3", "python3-venv"], what_for)?;
    }
    eprintln!("installing Python's {}", CLIENTS.join(", "));
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&home))?;
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    run(Command::new(home.join("bin/python"))
        .args(pip)
        .args(CLIENTS))?;
    std::fs::write(&done, wanted).with_context(|| format!("writing {}", done.display()))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().context("python3")?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}
