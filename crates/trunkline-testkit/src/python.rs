//! Python, as somebody has it who knows nothing of Trunkline.

use std::path::PathBuf;
use std::process::Command;

/// Python with the clients of the engines, from the environment that `cargo xtask test` makes.
///
/// # Panics
/// Loudly, when it is not there.
pub fn venv() -> PathBuf {
    let target = target();
    let python = target.join("engines/python/bin/python");
    assert!(
        python.exists(),
        "there is no {}: `cargo xtask test` makes it",
        python.display()
    );
    python
}

/// Python, about to run this program.
pub fn program(source: &str) -> Command {
    let mut command = Command::new(venv());
    command.args(["-c", source]);
    command
}

/// The build's folder, in which the test program lies.
pub(crate) fn target() -> PathBuf {
    let program = std::env::current_exe().expect("a program knows where it is");
    let target = program
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists());
    target
        .expect("a test lies in the build's folder")
        .to_owned()
}
