//! Keys that seal: several can open, one seals.

mod config;

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use trunkline_core::{ByteString, Env, Error, ErrorKind, Result};

pub use config::KeyringConfig;

use crate::Secret;
use crate::error::bad_key;

/// A key of AES-256.
const KEY_BYTES: usize = 32;
/// The longest name of a key.
const KEY_ID_BYTES_MAX: usize = 64;
/// The most keys of a ring.
const KEYS_MAX: usize = 32;
pub(crate) const NONCE_BYTES: usize = 12;
pub(crate) const TAG_BYTES: usize = 16;
/// How a sealed text begins.
const TEXT_MARK: &str = "s1";

/// Keys by their ids: one seals, and all of them open. Cheap to clone; never prints a key.
///
/// A rotation is three steps: add the new key everywhere, let it seal, and remove the old one when nothing that it
/// sealed is left.
///
/// # Guarantees
/// What was changed, was sealed with another key under the same id, or was bound to something else is refused
/// (`sealed_invalid`, permanent). What a key that is not here sealed is told apart (`sealing_key_missing`, transient:
/// the key may come).
///
/// # Shape
/// AES-256-GCM with random nonces of 96 bits: a key should seal no more than 2^32 times, and be replaced before.
///
/// # Source
/// NIST SP 800-38D, 8.3.
#[derive(Clone)]
pub struct Keyring {
    seals: Arc<Key>,
    all: Arc<[Arc<Key>]>,
    env: Env,
}

struct Key {
    id: ByteString,
    key: LessSafeKey,
}

/// What sealing made: the data is encrypted where it was.
pub(crate) struct Made {
    pub(crate) nonce: [u8; NONCE_BYTES],
    pub(crate) tag: [u8; TAG_BYTES],
}

impl Keyring {
    /// A ring of the keys in `all`, of which the one named `seals` seals.
    ///
    /// # Errors
    /// `InvalidInput` for an id or a key that is none, for two keys of one id, more than 32 of them, or where `seals`
    /// is not among them.
    pub fn new(
        seals: &str,
        all: impl IntoIterator<Item = (ByteString, Secret)>,
        env: Env,
    ) -> Result<Self> {
        let mut keys: Vec<Arc<Key>> = Vec::new();
        for (id, secret) in all {
            if keys.len() == KEYS_MAX {
                return Err(bad_key("expected at most 32 keys in the ring"));
            }
            if keys.iter().any(|key| key.id == id) {
                return Err(bad_key("two keys of the ring have the same id").with("key", id));
            }
            keys.push(Arc::new(Key::new(id, &secret)?));
        }
        let found = keys.iter().find(|key| *key.id == *seals).cloned();
        let seals = found.ok_or_else(|| {
            bad_key("the key that seals is not in the ring").with("expected", seals)
        })?;
        Ok(Self {
            seals,
            all: keys.into(),
            env,
        })
    }

    /// The id of the key that seals now.
    pub fn seals(&self) -> &ByteString {
        &self.seals.id
    }

    /// Seals data as a text: `s1:<key id>:<nonce, encrypted data and tag in base64url>`. It opens only with the
    /// same `bound_to`, which is not kept in it.
    ///
    /// # Errors
    /// `Internal` where the data is too long for the algorithm (64 GiB).
    pub fn seal_text(&self, data: &[u8], bound_to: &[u8]) -> Result<String> {
        let mut sealed = Vec::with_capacity(NONCE_BYTES + data.len() + TAG_BYTES);
        sealed.extend_from_slice(data);
        let made = self.seal_in_place(&mut sealed, bound_to)?;
        sealed.splice(0..0, made.nonce);
        sealed.extend_from_slice(&made.tag);
        let encoded = URL_SAFE_NO_PAD.encode(&sealed);
        Ok(self.text_prefix() + &encoded)
    }

    /// Opens what [`Keyring::seal_text`] made.
    ///
    /// # Errors
    /// `InvalidInput` (`sealed_malformed`) for what is no sealed text; `Unavailable` (`sealing_key_missing`);
    /// `Corrupt` (`sealed_invalid`).
    pub fn open_text(&self, sealed: &str, bound_to: &[u8]) -> Result<Vec<u8>> {
        let (id, encoded) = split_text(sealed)?;
        let mut data = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| malformed())?;
        let nonce: [u8; NONCE_BYTES] = *data.first_chunk().ok_or_else(malformed)?;
        data.drain(..NONCE_BYTES);
        self.open_in_place(id, nonce, &mut data, bound_to)?;
        Ok(data)
    }

    /// Whether a sealed text was sealed with the key that seals now.
    ///
    /// # Errors
    /// `InvalidInput` (`sealed_malformed`) for what is no sealed text.
    pub fn is_current(&self, sealed: &str) -> Result<bool> {
        Ok(*split_text(sealed)?.0 == *self.seals.id)
    }

    /// How every text begins that is sealed with the key that seals now.
    pub fn text_prefix(&self) -> String {
        format!("{TEXT_MARK}:{}:", self.seals.id)
    }

    pub(crate) fn seal_in_place(&self, data: &mut [u8], bound_to: &[u8]) -> Result<Made> {
        let mut nonce = [0; NONCE_BYTES];
        self.env.random_bytes(&mut nonce);
        let tag = self
            .seals
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(bound_to),
                data,
            )
            .map_err(|_| Error::internal("the data can't be sealed: it is too long"))?;
        let tag = tag.as_ref().first_chunk().copied();
        let tag = tag.ok_or_else(|| Error::internal("a tag of GCM has 16 bytes"))?;
        Ok(Made { nonce, tag })
    }

    /// Opens data with its tag behind it, and takes the tag off.
    pub(crate) fn open_in_place(
        &self,
        id: &str,
        nonce: [u8; NONCE_BYTES],
        data: &mut Vec<u8>,
        bound_to: &[u8],
    ) -> Result<()> {
        if !is_key_id(id) {
            return Err(malformed());
        }
        let found = self.all.iter().find(|key| *key.id == *id);
        let key = found.ok_or_else(|| missing(id))?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = key.key.open_in_place(nonce, Aad::from(bound_to), data);
        let length = opened.map_err(|_| invalid(id))?.len();
        data.truncate(length);
        Ok(())
    }
}

impl Key {
    fn new(id: ByteString, secret: &Secret) -> Result<Self> {
        if !is_key_id(&id) {
            let text = "expected a key id of 1 to 64 letters, digits, `.`, `_` and `-`";
            return Err(bad_key(text).with("found", id));
        }
        let bytes = secret.bytes();
        let wrong = || {
            bad_key("expected a sealing key of exactly 32 bytes")
                .with("key", &id)
                .with("found", bytes.len())
        };
        if bytes.len() != KEY_BYTES {
            return Err(wrong());
        }
        let key = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| wrong())?;
        Ok(Self {
            key: LessSafeKey::new(key),
            id,
        })
    }
}

fn split_text(sealed: &str) -> Result<(&str, &str)> {
    let mut parts = sealed.splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(TEXT_MARK), Some(id), Some(encoded)) if is_key_id(id) => Ok((id, encoded)),
        _ => Err(malformed()),
    }
}

fn is_key_id(id: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=KEY_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(fits)
}

pub(crate) fn malformed() -> Error {
    Error::invalid("sealed_malformed", "this is not something sealed")
}

pub(crate) fn invalid(id: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "sealed_invalid",
        "what is sealed was changed, moved to another place, or sealed with another key of this id",
    )
    .with("key", id)
}

fn missing(id: &str) -> Error {
    Error::unavailable(
        "sealing_key_missing",
        "the key that sealed this is not in the keyring",
    )
    .with("key", id)
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.all.iter().map(|key| &*key.id).collect();
        f.debug_struct("Keyring")
            .field("seals", &self.seals.id)
            .field("opens", &ids)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
