//! The refusals. A caller learns which of four cases it is and nothing more: an attacker must not learn which
//! check a forged token failed.

use trunkline_core::{Error, ErrorKind};

/// There is no token (`token_missing`).
pub fn missing() -> Error {
    refused(
        "token_missing",
        "expected `Authorization: Bearer <token>` with a JWT",
    )
}

/// It is none (`token_malformed`).
pub fn malformed() -> Error {
    refused("token_malformed", "the token is not a well-formed JWT")
}

/// It is not valid now (`token_expired`).
pub fn expired() -> Error {
    refused("token_expired", "the token is not valid at this time")
}

/// Anything else (`token_forged`): `why` is for the log and stays out of the answer.
pub fn forged(why: &'static str) -> Error {
    refused("token_forged", "the token was not issued for this place").with_source(why)
}

pub(crate) fn replayed() -> Error {
    refused(
        "token_replayed",
        "the token was used before: this operation takes each token once",
    )
}

fn refused(code: &'static str, message: &'static str) -> Error {
    Error::new(ErrorKind::Unauthenticated, code, message)
}

/// A key that can't be used, with what was expected of it.
pub(crate) fn bad_key(message: &'static str) -> Error {
    Error::invalid("key_invalid", message)
}
