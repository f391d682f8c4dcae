//! The compact binary form of an envelope, used by the embedded log, the outbox and dead letters.

use bytes::Bytes;

use crate::{Envelope, Error, Result};

impl Envelope {
    /// Appends the compact binary form to `into`.
    ///
    /// # Shape
    /// One version byte, then fields in a fixed order; texts and data as a varint length and bytes.
    pub fn encode(&self, into: &mut Vec<u8>) {
        // H-core
        let _ = into;
    }

    /// Reads the compact binary form. Texts and data share `bytes`; nothing is copied.
    ///
    /// # Errors
    /// `Corrupt` when the bytes are not what [`Envelope::encode`] writes.
    pub fn decode(bytes: Bytes) -> Result<Self> {
        let _ = bytes;
        Err(Error::internal("H-core"))
    }
}
