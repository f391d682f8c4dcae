//! Database errors as the toolkit's own.

use trunkline_core::Error;

/// What is not written yet.
pub(crate) fn unfinished() -> Error {
    Error::internal("not written yet")
}
