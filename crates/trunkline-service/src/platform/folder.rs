//! The data folder: it can be written, and one process at a time uses it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use trunkline_core::{Error, Result};

/// The right to use a data folder; given back when dropped, or when the process dies.
#[derive(Debug)]
pub(super) struct Claim {
    _lock: File,
}

/// Makes the folder, proves that it can be written, and claims it.
///
/// # Errors
/// `Unavailable` when it can't be written; `Conflict` when another process uses it.
pub(super) fn claim(data: &Path) -> Result<Claim> {
    let bad = |error: std::io::Error| {
        let text = "the data folder can't be written; choose another with --data";
        Error::unavailable("data_unwritable", text)
            .with("folder", data.display())
            .with("why", &error)
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(bad)?;
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(data.join(".lock"))
        .map_err(bad)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        let text = "another process uses the data folder; stop it or choose another with --data";
        Error::conflict("data_in_use", text).with("folder", data.display())
    })?;
    Ok(Claim { _lock: lock })
}
