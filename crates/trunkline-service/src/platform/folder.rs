//! The data folder: it can be written, and one process at a time uses it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use trunkline_core::{Error, Result};

/// The right to use a data folder; given back when dropped, or when the process dies.
#[derive(Debug)]
pub(super) struct Claim {
    _locks: Vec<File>,
}

/// Makes the folder, proves that it can be written, and claims it: all of it, or the parts of what runs here. Where nothing but
/// keys is kept in it, since all else is on servers, processes share it.
///
/// # Errors
/// `Unavailable` when it can't be written; `Conflict` when another process uses it.
pub(super) fn claim(data: &Path, parts: &[String], is_shared: bool) -> Result<Claim> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(|error| unwritable(data, &error))?;
    if is_shared {
        let shared = lock(data, ".lock", FlockOperation::NonBlockingLockShared)?;
        return Ok(Claim {
            _locks: vec![shared],
        });
    }
    if parts.is_empty() {
        let whole = lock(data, ".lock", FlockOperation::NonBlockingLockExclusive)?;
        return Ok(Claim {
            _locks: vec![whole],
        });
    }
    // Beside other processes of the platform, but not beside one that runs it whole.
    let mut locks = vec![lock(data, ".lock", FlockOperation::NonBlockingLockShared)?];
    for part in parts {
        let name = format!(".lock-{part}");
        locks.push(lock(data, &name, FlockOperation::NonBlockingLockExclusive)?);
    }
    Ok(Claim { _locks: locks })
}

fn lock(data: &Path, name: &str, how: FlockOperation) -> Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(data.join(name))
        .map_err(|error| unwritable(data, &error))?;
    flock(&file, how).map_err(|_| {
        let text = "another process uses the data folder; stop it or choose another with --data";
        Error::conflict("data_in_use", text)
            .with("folder", data.display())
            .with("lock", name)
    })?;
    Ok(file)
}

fn unwritable(data: &Path, error: &std::io::Error) -> Error {
    let text = "the data folder can't be written; choose another with --data";
    Error::unavailable("data_unwritable", text)
        .with("folder", data.display())
        .with("why", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_share_a_folder_that_the_whole_has_alone() {
        let folder = tempfile::tempdir().unwrap();
        let parts = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            claim(folder.path(), &names, false)
        };
        let orders = parts(&["order-service"]).unwrap();
        let rest = parts(&["gateway", "cart-service"]).unwrap();
        assert_eq!(parts(&["order-service"]).unwrap_err().code(), "data_in_use");
        assert_eq!(parts(&[]).unwrap_err().code(), "data_in_use");
        drop((orders, rest));
        let shared = || claim(folder.path(), &[], true);
        let whole = parts(&[]).unwrap();
        assert_eq!(shared().unwrap_err().code(), "data_in_use");
        assert_eq!(parts(&["order-service"]).unwrap_err().code(), "data_in_use");
        drop(whole);
        drop(parts(&["order-service"]).unwrap());
        let (first, second) = (shared().unwrap(), shared().unwrap());
        assert_eq!(parts(&[]).unwrap_err().code(), "data_in_use");
        drop((first, second));
    }
}
