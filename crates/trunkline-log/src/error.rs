//! Failures of files as errors of the port.

use std::io;
use std::path::Path;

use trunkline_core::{Error, ErrorKind, Retry};

/// What failed on which file.
pub(crate) fn io(doing: &'static str, path: &Path, error: io::Error) -> Error {
    let (kind, code) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (ErrorKind::Unavailable, "log_full")
        }
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotADirectory => (ErrorKind::PermissionDenied, "log_unwritable"),
        _ => (ErrorKind::Unavailable, "log_io"),
    };
    Error::new(kind, code, doing)
        .with("file", path.display())
        .with_source(error)
}

/// Bytes that are not what was written.
#[cold]
pub(crate) fn corrupt(what: &'static str, path: &Path, at: u64) -> Error {
    Error::new(ErrorKind::Corrupt, "log_corrupt", what)
        .with("file", path.display())
        .with("byte", at)
}

pub(crate) fn closed() -> Error {
    Error::unavailable("transport_closed", "the log is closed")
}

/// A sync failed: what is on the disk is not known until the log is opened again.
pub(crate) fn poisoned() -> Error {
    let message = "the log could not sync its file and takes nothing more until it is opened again";
    Error::unavailable("log_poisoned", message).with_retry(Retry::Transient)
}

/// More than the format can hold.
pub(crate) fn too_large() -> Error {
    Error::new(
        ErrorKind::TooLarge,
        "log_batch_too_large",
        "the batch is larger than a segment may be",
    )
}

/// The same failure for another who waited.
pub(crate) fn again(error: &Error) -> Error {
    let mut copy = Error::new(
        error.kind(),
        error.code().to_owned(),
        error.message().to_owned(),
    )
    .with_retry(error.retry());
    for (key, value) in error.context() {
        copy = copy.with(key, value);
    }
    let cause = std::error::Error::source(error).map(ToString::to_string);
    if let Some(cause) = cause {
        copy.with("cause", cause)
    } else {
        copy
    }
}
