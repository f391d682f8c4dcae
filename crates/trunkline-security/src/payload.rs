//! Sealing the data of events.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trunkline_core::{ByteString, Envelope, Error, Result};

use crate::Keyring;
use crate::keyring::{NONCE_BYTES, TAG_BYTES, invalid, malformed};

const DIRECT: &str = "dir";
const A256GCM: &str = "A256GCM";

/// Seals the data of events and opens it again.
///
/// # Guarantees
/// Sealed data opens only within its own event: `id`, `type`, `dataversion`, `source`, `partitionkey` and the
/// content type that the data had are bound to it. A changed byte, a wrong key or another event around the data is
/// refused (`sealed_invalid`, permanent); a key that is not here is told apart (`sealing_key_missing`, transient).
///
/// # Shape
/// The data is a JWE in flattened JSON (`datacontenttype: application/jose+json`), so it travels through every
/// dialect and any JOSE library opens it: `alg` is `dir`, `enc` is `A256GCM`, `kid` names the key, `cty` is the
/// content type of what is within, and `aad` is the JSON array `[id, type, dataversion, source, partitionkey]`,
/// with `null` for no key.
///
/// # Source
/// RFC 7516, 7.2.2; RFC 7518, 4.5 and 5.3.
#[derive(Clone)]
pub struct EventSealer {
    keys: Keyring,
    accept_unsealed: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Jwe<'a> {
    #[serde(borrow)]
    protected: &'a str,
    iv: &'a str,
    ciphertext: &'a str,
    tag: &'a str,
    aad: &'a str,
}

/// Others may say more in it, but nothing that has to be understood.
#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    enc: String,
    kid: String,
    cty: String,
    #[serde(default, skip_serializing)]
    crit: Option<Value>,
    #[serde(default, skip_serializing)]
    zip: Option<Value>,
}

impl EventSealer {
    /// Seals and opens with these keys, and refuses data that must be sealed and is not.
    pub fn new(keys: Keyring) -> Self {
        Self {
            keys,
            accept_unsealed: false,
        }
    }

    /// Takes data that must be sealed and is not all the same: while senders are still to be brought up to date.
    #[must_use]
    pub fn accept_unsealed(self, accept: bool) -> Self {
        Self {
            accept_unsealed: accept,
            ..self
        }
    }

    /// Seals an event's data with the key that seals now. What is sealed stays as it is.
    ///
    /// # Errors
    /// `Internal` where the data is too long for the algorithm (64 GiB).
    pub fn seal(&self, event: &mut Envelope) -> Result<()> {
        if event.is_sealed() {
            return Ok(());
        }
        let header = Header {
            alg: DIRECT.to_owned(),
            enc: A256GCM.to_owned(),
            kid: self.keys.seals().to_string(),
            cty: event.content_type.to_string(),
            crit: None,
            zip: None,
        };
        let unwritable = |error| Error::internal("a header can't be written").with_source(error);
        let header = serde_json::to_vec(&header).map_err(unwritable)?;
        let protected = BASE64.encode(header);
        let aad = BASE64.encode(bound(event).to_string());
        let mut data = event.data.to_vec();
        let made = self
            .keys
            .seal_in_place(&mut data, format!("{protected}.{aad}").as_bytes())?;
        let jwe = Jwe {
            protected: &protected,
            iv: &BASE64.encode(made.nonce),
            ciphertext: &BASE64.encode(&data),
            tag: &BASE64.encode(made.tag),
            aad: &aad,
        };
        event.data = serde_json::to_vec(&jwe).map_err(unwritable)?.into();
        event.content_type = ByteString::from_static(Envelope::SEALED);
        Ok(())
    }

    /// Opens an event's data, if it is sealed; `must` says that it has to be.
    ///
    /// # Errors
    /// `InvalidInput`: `event_unsealed` for data that must be sealed and is not, `sealed_malformed` for data that is
    /// no JWE of ours. `Unavailable` (`sealing_key_missing`), `Corrupt` (`sealed_invalid`).
    pub fn open(&self, event: &mut Envelope, must: bool) -> Result<()> {
        if !event.is_sealed() {
            return if must && !self.accept_unsealed {
                Err(about(unsealed(), event))
            } else {
                Ok(())
            };
        }
        let (data, content_type) = self.opened(event).map_err(|error| about(error, event))?;
        event.data = data.into();
        event.content_type = content_type.into();
        Ok(())
    }

    fn opened(&self, event: &Envelope) -> Result<(Vec<u8>, String)> {
        let jwe: Jwe<'_> = serde_json::from_slice(&event.data).map_err(|_| malformed())?;
        let decode = |text: &str| BASE64.decode(text).map_err(|_| malformed());
        let json = |text: &str| serde_json::from_slice(&decode(text)?).map_err(|_| malformed());
        let header: Header =
            serde_json::from_value(json(jwe.protected)?).map_err(|_| malformed())?;
        let known = header.alg == DIRECT && header.enc == A256GCM;
        if !known || header.crit.is_some() || header.zip.is_some() {
            return Err(malformed());
        }
        let nonce: [u8; NONCE_BYTES] = decode(jwe.iv)?.try_into().map_err(|_| malformed())?;
        let tag: [u8; TAG_BYTES] = decode(jwe.tag)?.try_into().map_err(|_| malformed())?;
        let mut data = decode(jwe.ciphertext)?;
        data.extend_from_slice(&tag);
        let aad = format!("{}.{}", jwe.protected, jwe.aad);
        self.keys
            .open_in_place(&header.kid, nonce, &mut data, aad.as_bytes())?;
        // It is what it says that it is; now whether it belongs here.
        if json(jwe.aad)? != bound(event) {
            return Err(invalid(&header.kid));
        }
        Ok((data, header.cty))
    }
}

/// What an event's data is bound to.
fn bound(event: &Envelope) -> Value {
    json!([
        &*event.id,
        &*event.event_type,
        event.version.to_string(),
        &*event.source,
        event.key.as_deref(),
    ])
}

fn unsealed() -> Error {
    Error::invalid(
        "event_unsealed",
        "events of this type must be encrypted, and this one is not",
    )
}

fn about(error: Error, event: &Envelope) -> Error {
    error
        .with("type", &event.event_type)
        .with("event", &event.id)
}

impl fmt::Debug for EventSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSealer")
            .field("keys", &self.keys)
            .field("accept_unsealed", &self.accept_unsealed)
            .finish()
    }
}

#[cfg(test)]
mod tests;
