//! Keys that verify, each with the one algorithm that it is for.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use trunkline_core::Result;

use crate::Secret;
use crate::error::{bad_key, forged, malformed};
use crate::jwks::{check_size, verifies};

/// The longest token that is looked at.
pub(crate) const TOKEN_BYTES_MAX: usize = 8192;
/// The most keys of a set; a larger set is refused.
pub(crate) const KEYS_MAX: usize = 32;

/// Keys that verify tokens. Cheap to clone.
#[derive(Clone)]
pub(crate) struct KeySet(Arc<[Key]>);

#[derive(Clone)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl KeySet {
    pub(crate) fn hs256(secret: &Secret) -> Self {
        Self::one(Algorithm::HS256, DecodingKey::from_secret(secret.bytes()))
    }

    /// A public key in PEM that verifies `algorithm`.
    pub(crate) fn pem(pem: &str, algorithm: Algorithm) -> Result<Self> {
        let (made, expected) = match algorithm {
            Algorithm::ES256 => (
                DecodingKey::from_ec_pem(pem.as_bytes()),
                "expected a public key of P-256 in PEM",
            ),
            Algorithm::EdDSA => (
                DecodingKey::from_ed_pem(pem.as_bytes()),
                "expected a public key of Ed25519 in PEM",
            ),
            _ => (
                DecodingKey::from_rsa_pem(pem.as_bytes()),
                "expected a public RSA key in PEM",
            ),
        };
        let key = made.map_err(|error| bad_key(expected).with_source(error))?;
        let public = Jwk::from_decoding_key(&key, Some(algorithm))
            .map_err(|error| bad_key(expected).with_source(error))?;
        if verifies(&public) != Some(algorithm) {
            return Err(bad_key(expected));
        }
        check_size(&public)?;
        Ok(Self::one(algorithm, key))
    }

    /// The keys of a JWKS document that verify RS256, ES256 or EdDSA; keys for other ends are read over.
    pub(crate) fn jwks(document: &str) -> Result<Self> {
        let set: JwkSet = serde_json::from_str(document).map_err(|error| {
            bad_key("expected a JWKS document: {\"keys\": [...]}").with_source(error)
        })?;
        if set.keys.len() > KEYS_MAX {
            return Err(
                bad_key("expected at most 32 keys in the set").with("found", set.keys.len())
            );
        }
        let mut keys = Vec::new();
        for jwk in &set.keys {
            let Some(algorithm) = verifies(jwk) else {
                continue;
            };
            check_size(jwk)?;
            let key = DecodingKey::from_jwk(jwk)
                .map_err(|error| bad_key("expected public keys in the set").with_source(error))?;
            keys.push(Key {
                id: jwk.common.key_id.clone(),
                algorithm,
                key,
            });
        }
        if keys.is_empty() {
            return Err(bad_key(
                "expected a public key for RS256, ES256 or EdDSA in the set",
            ));
        }
        Ok(Self(keys.into()))
    }

    fn one(algorithm: Algorithm, key: DecodingKey) -> Self {
        let id = None;
        Self(Arc::new([Key { id, algorithm, key }]))
    }

    /// The keys of both.
    pub(crate) fn or(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(other.0.iter()).cloned().collect())
    }

    /// Whether a token with this header may have been signed with one of these keys.
    pub(crate) fn may_verify(&self, header: &Header) -> bool {
        self.0.iter().any(|key| key.is_meant(header))
    }

    /// What a token says, if one of these keys signed it. The times in it are not looked at.
    pub(crate) fn open<T: DeserializeOwned>(&self, token: &str, header: &Header) -> Result<T> {
        self.0
            .iter()
            .filter(|key| key.is_meant(header))
            .find_map(|key| key.open(token).transpose())
            .ok_or_else(|| forged("no key that is known has signed it"))?
    }
}

/// A token's header. What is well-formed but names an algorithm that we don't know is forged.
pub(crate) fn header(token: &str) -> Result<Header> {
    use base64::Engine;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(malformed());
    }
    let mut parts = token.split('.');
    let (Some(head), Some(_), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed());
    };
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(head)
        .map_err(|_| malformed())?;
    match serde_json::from_slice::<Header>(&json) {
        // `crit` names extensions that the reader has to understand (RFC 7515, 4.1.11): we understand none.
        Ok(header) if header.crit.is_some() => Err(forged("it asks for extensions")),
        Ok(header) => Ok(header),
        Err(_) if serde_json::from_slice::<serde_json::Map<_, _>>(&json).is_ok() => {
            Err(forged("its header names an algorithm that is none of ours"))
        }
        Err(_) => Err(malformed()),
    }
}

impl Key {
    fn is_meant(&self, header: &Header) -> bool {
        header.alg == self.algorithm
            && (header.kid.is_none() || self.id.is_none() || header.kid == self.id)
    }

    /// The claims if this key signed the token; `None` if it did not.
    fn open<T: DeserializeOwned>(&self, token: &str) -> Result<Option<T>> {
        // The times are checked by us, on the environment's clock.
        let mut validation = Validation::new(self.algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        match jsonwebtoken::decode::<T>(token, &self.key, &validation) {
            Ok(opened) => Ok(Some(opened.claims)),
            Err(error) => match error.kind() {
                jsonwebtoken::errors::ErrorKind::InvalidSignature => Ok(None),
                _ => Err(malformed()),
            },
        }
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.iter().map(|key| (key.algorithm, key.id.as_deref()));
        f.debug_list().entries(keys).finish()
    }
}
