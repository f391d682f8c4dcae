//! Node.js with the official client of Socket.IO.

use std::path::Path;
use std::process::Command;

use crate::python::target;

/// Node.js, about to run this file, which may `require` what `cargo xtask test` has installed.
///
/// # Panics
/// Loudly, when that is not there.
pub fn script(file: &Path) -> Command {
    let modules = target().join("engines/node/node_modules");
    assert!(
        modules.exists(),
        "there is no {}: `cargo xtask test` makes it",
        modules.display()
    );
    let mut command = Command::new("node");
    command.arg(file).env("NODE_PATH", modules);
    command
}
