//! Idempotency keys: the same request has its effect once and gets the same answer.

use sha2::{Digest, Sha256};
use trunkline_core::Result;

use crate::Store;
use crate::error::unfinished;

/// The hash that [`Idempotency::begin`] compares: SHA-256 of the request's body.
pub fn body_hash(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

/// The keys of one service.
#[derive(Debug, Clone)]
pub struct Idempotency {
    #[expect(dead_code, reason = "the insides are not written yet")]
    store: Store,
}

/// What a request with an idempotency key should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// Do the work, then [`crate::Tx::complete_idempotent`] or [`Idempotency::abandon`].
    Started,
    /// Answer this: it was done before.
    Replay(StoredResponse),
    /// The key was used with another body (422).
    Mismatch,
    /// The same request is still running (409).
    Running,
}

/// An answer as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResponse {
    /// The HTTP status.
    pub status: u16,
    /// The headers worth repeating, such as `content-type` and `location`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Idempotency {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Takes the key, or says what happened to it before. `scope` keeps operations and users apart.
    pub async fn begin(&self, scope: &str, key: &str, body_hash: [u8; 32]) -> Result<Begin> {
        let _ = (scope, key, body_hash);
        Err(unfinished())
    }

    /// Gives the key back: the work failed with no effect, and the next request may try.
    pub async fn abandon(&self, scope: &str, key: &str) -> Result<()> {
        let _ = (scope, key);
        Err(unfinished())
    }
}
