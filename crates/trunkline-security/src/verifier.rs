//! Telling whose a token is.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use trunkline_core::{ByteString, Env, Result};

use crate::error::{bad_key, expired, forged, malformed, missing};
use crate::jwks::{check_modulus, verifies_rs256};
use crate::{Claims, Secret};

/// How far the clocks of issuer and verifier may be apart.
const LEEWAY_SECONDS: i64 = 30;
/// The longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 8192;
/// The most keys of a set; a larger set is refused.
const KEYS_MAX: usize = 32;

/// Tells whose a token is. Cheap to clone.
///
/// # Guarantees
/// A key verifies its own algorithm and no other: `alg: none` and a token that was signed with HMAC under a
/// public key are forged. A token that names a key (`kid`) is held against that key alone. `exp` is required;
/// `exp` and `nbf` may be off by 30 s. Of a wrong token a caller learns its code and nothing else.
#[derive(Clone)]
pub struct Verifier {
    keys: Arc<[Key]>,
    issuer: Option<ByteString>,
    audience: Option<ByteString>,
    env: Env,
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Verifier {
    /// Verifies HMAC SHA-256.
    pub fn hs256(secret: &Secret, env: Env) -> Self {
        Self::with_keys(
            vec![Key {
                id: None,
                algorithm: Algorithm::HS256,
                key: DecodingKey::from_secret(secret.bytes()),
            }],
            env,
        )
    }

    /// Verifies RS256 with a public key in PEM.
    ///
    /// # Errors
    /// `InvalidInput` for anything but a public RSA key of at least 2048 bits.
    pub fn rs256_pem(pem: &str, env: Env) -> Result<Self> {
        let expected = "expected a public RSA key in PEM";
        let key = DecodingKey::from_rsa_pem(pem.as_bytes())
            .map_err(|error| bad_key(expected).with_source(error))?;
        let public = Jwk::from_decoding_key(&key, Some(Algorithm::RS256))
            .map_err(|error| bad_key(expected).with_source(error))?;
        check_modulus(&public)?;
        Ok(Self::with_keys(vec![rs256(None, key)], env))
    }

    /// Verifies RS256 with the keys of a JWKS document; keys for other ends are read over.
    ///
    /// # Errors
    /// `InvalidInput` for what is not a JWKS document, for more than 32 keys, for a key of less than 2048 bits,
    /// and where no key is left.
    pub fn jwks(document: &str, env: Env) -> Result<Self> {
        let set: JwkSet = serde_json::from_str(document).map_err(|error| {
            bad_key("expected a JWKS document: {\"keys\": [...]}").with_source(error)
        })?;
        if set.keys.len() > KEYS_MAX {
            return Err(
                bad_key("expected at most 32 keys in the set").with("found", set.keys.len())
            );
        }
        let mut keys = Vec::new();
        for jwk in set.keys.iter().filter(|jwk| verifies_rs256(jwk)) {
            check_modulus(jwk)?;
            let key = DecodingKey::from_jwk(jwk)
                .map_err(|error| bad_key("expected an RSA key in the set").with_source(error))?;
            keys.push(rs256(jwk.common.key_id.clone(), key));
        }
        if keys.is_empty() {
            return Err(bad_key("expected an RSA key for RS256 in the set"));
        }
        Ok(Self::with_keys(keys, env))
    }

    fn with_keys(keys: Vec<Key>, env: Env) -> Self {
        Self {
            keys: keys.into(),
            issuer: None,
            audience: None,
            env,
        }
    }

    /// Accepts the keys of both: while a key is being replaced, or where services and users have different ones.
    /// Issuer and audience are those of `self`.
    #[must_use]
    pub fn or(mut self, other: &Self) -> Self {
        let both = self.keys.iter().chain(other.keys.iter());
        self.keys = both.map(Key::copy).collect();
        self
    }

    /// Takes tokens of this issuer only.
    #[must_use]
    pub fn issuer(self, issuer: impl Into<ByteString>) -> Self {
        Self {
            issuer: Some(issuer.into()),
            ..self
        }
    }

    /// Takes tokens for this audience only.
    #[must_use]
    pub fn audience(self, audience: impl Into<ByteString>) -> Self {
        Self {
            audience: Some(audience.into()),
            ..self
        }
    }

    /// What a token says, once it is sure that it may be believed.
    ///
    /// # Errors
    /// `Unauthenticated` with the code `token_malformed` (not a JWT), `token_expired` (not valid now),
    /// `token_forged` (everything else).
    pub fn verify(&self, token: &str) -> Result<Claims> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(malformed());
        }
        let header = header(token)?;
        let claims = self
            .keys
            .iter()
            .filter(|key| key.is_meant(&header))
            .find_map(|key| key.open(token).transpose())
            .ok_or_else(forged)??;
        claims.check_subject()?;
        self.check(&claims)?;
        Ok(claims)
    }

    /// The same for the value of an `Authorization` header.
    ///
    /// # Errors
    /// As [`Verifier::verify`], and `token_missing` where there is no bearer token.
    pub fn verify_header(&self, authorization: Option<&[u8]>) -> Result<Claims> {
        let value = authorization.ok_or_else(missing)?;
        let (scheme, token) = value.split_at_checked(7).ok_or_else(missing)?;
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return Err(missing());
        }
        let token = std::str::from_utf8(token).map_err(|_| malformed())?;
        self.verify(token.trim_matches(' '))
    }

    fn check(&self, claims: &Claims) -> Result<()> {
        let now = self.env.now().as_second();
        if let Some(issuer) = &self.issuer
            && claims.iss.as_ref() != Some(issuer)
        {
            return Err(forged());
        }
        if let Some(wanted) = &self.audience
            && !claims.aud.as_ref().is_some_and(|aud| aud.contains(wanted))
        {
            return Err(forged());
        }
        let begun = claims
            .nbf
            .is_none_or(|nbf| nbf <= now.saturating_add(LEEWAY_SECONDS));
        if !begun || claims.exp.saturating_add(LEEWAY_SECONDS) <= now {
            return Err(expired());
        }
        Ok(())
    }
}

/// The token's header. What is well-formed but names an algorithm that we don't know is forged.
fn header(token: &str) -> Result<Header> {
    use base64::Engine;
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
        Ok(header) => Ok(header),
        Err(_) if serde_json::from_slice::<serde_json::Map<_, _>>(&json).is_ok() => Err(forged()),
        Err(_) => Err(malformed()),
    }
}

impl Key {
    fn is_meant(&self, header: &Header) -> bool {
        // `crit` names extensions that the reader has to understand (RFC 7515, 4.1.11): we understand none.
        header.alg == self.algorithm
            && header.crit.is_none()
            && (header.kid.is_none() || self.id.is_none() || header.kid == self.id)
    }

    /// The claims if this key signed the token; `None` if it did not.
    fn open(&self, token: &str) -> Result<Option<Claims>> {
        // The times are checked by us, on the environment's clock.
        let mut validation = Validation::new(self.algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        match jsonwebtoken::decode::<Claims>(token, &self.key, &validation) {
            Ok(opened) => Ok(Some(opened.claims)),
            Err(error) => match error.kind() {
                jsonwebtoken::errors::ErrorKind::InvalidSignature => Ok(None),
                _ => Err(malformed()),
            },
        }
    }

    fn copy(&self) -> Self {
        Self {
            id: self.id.clone(),
            algorithm: self.algorithm,
            key: self.key.clone(),
        }
    }
}

fn rs256(id: Option<String>, key: DecodingKey) -> Key {
    Key {
        id,
        algorithm: Algorithm::RS256,
        key,
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self
            .keys
            .iter()
            .map(|key| (key.algorithm, key.id.as_deref()))
            .collect();
        f.debug_struct("Verifier")
            .field("keys", &keys)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
