//! Node.js with the official client of Socket.IO, and with a browser.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::python::target;

/// The same, for a file that moves a browser by `playwright-core`: `CHROMIUM` says where the program is.
///
/// # Panics
/// Loudly, when something of it is not there.
pub fn browser_script(file: &Path) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join("chromium"));
    let chromium = places.find(|place| place.exists());
    let chromium = chromium.expect("there is no chromium: `cargo xtask test` installs it");
    let mut command = script(file);
    command.env("CHROMIUM", chromium);
    command
}

/// Where npm's packages are.
pub fn modules() -> PathBuf {
    target().join("engines/node/node_modules")
}

/// Node.js, about to run this file, which may `require` what `cargo xtask test` has installed.
///
/// # Panics
/// Loudly, when that is not there.
pub fn script(file: &Path) -> Command {
    let modules = modules();
    assert!(
        modules.exists(),
        "there is no {}: `cargo xtask test` makes it",
        modules.display()
    );
    let mut command = Command::new("node");
    command.arg(file).env("NODE_PATH", modules);
    command
}
