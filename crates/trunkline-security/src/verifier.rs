//! Telling whose a token is.

use std::fmt;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde::de::DeserializeOwned;
use trunkline_core::{ByteString, Env, Result};

use crate::error::{forged, malformed, missing};
use crate::keys::{self, KeySet};
use crate::{Claims, Secret, Times};

/// How far the clocks of issuer and verifier may be apart.
pub const LEEWAY: Duration = Duration::from_secs(LEEWAY_SECONDS.unsigned_abs());
pub(crate) const LEEWAY_SECONDS: i64 = 30;

/// Tells whose a token is. Cheap to clone.
///
/// # Guarantees
/// A key verifies its own algorithm and no other: `alg: none` and a token that was signed with HMAC under a
/// public key are forged. A token that names a key (`kid`) is held against that key alone. `exp` is required;
/// `exp` and `nbf` may be off by 30 s. Of a wrong token a caller learns its code and nothing else; which check it
/// was that failed is the error's source, for the log.
#[derive(Clone)]
pub struct Verifier {
    keys: KeySet,
    issuer: Option<ByteString>,
    audience: Option<ByteString>,
    env: Env,
}

impl Verifier {
    /// Verifies HMAC SHA-256.
    pub fn hs256(secret: &Secret, env: Env) -> Self {
        Self::with_keys(KeySet::hs256(secret), env)
    }

    /// Verifies RS256 with a public key in PEM.
    ///
    /// # Errors
    /// `InvalidInput` for anything but a public RSA key of at least 2048 bits.
    pub fn rs256_pem(pem: &str, env: Env) -> Result<Self> {
        Ok(Self::with_keys(KeySet::pem(pem, Algorithm::RS256)?, env))
    }

    /// Verifies ES256 with a public key in PEM.
    ///
    /// # Errors
    /// `InvalidInput` for anything but a public key of P-256.
    pub fn es256_pem(pem: &str, env: Env) -> Result<Self> {
        Ok(Self::with_keys(KeySet::pem(pem, Algorithm::ES256)?, env))
    }

    /// Verifies EdDSA with a public key in PEM.
    ///
    /// # Errors
    /// `InvalidInput` for anything but a public key of Ed25519.
    pub fn eddsa_pem(pem: &str, env: Env) -> Result<Self> {
        Ok(Self::with_keys(KeySet::pem(pem, Algorithm::EdDSA)?, env))
    }

    /// Verifies RS256, ES256 and EdDSA with the keys of a JWKS document; keys for other ends are read over.
    ///
    /// # Errors
    /// `InvalidInput` for what is not a JWKS document, for more than 32 keys, for a key that is too short for its
    /// algorithm, and where no key is left.
    pub fn jwks(document: &str, env: Env) -> Result<Self> {
        Ok(Self::with_keys(KeySet::jwks(document)?, env))
    }

    fn with_keys(keys: KeySet, env: Env) -> Self {
        Self {
            keys,
            issuer: None,
            audience: None,
            env,
        }
    }

    /// Accepts the keys of both: while a key is being replaced, or where services and users have different ones.
    /// Issuer and audience are those of `self`.
    #[must_use]
    pub fn or(mut self, other: &Self) -> Self {
        self.keys = self.keys.or(&other.keys);
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
        let header = keys::header(token)?;
        let claims: Claims = self.keys.open(token, &header)?;
        claims.check_subject()?;
        self.check(&claims)?;
        Ok(claims)
    }

    /// What a token says in claims of any shape, if one of the keys signed it. Neither its times nor for whom it was made
    /// are looked at: that is the caller's.
    ///
    /// # Errors
    /// `Unauthenticated` with the code `token_malformed` or `token_forged`.
    pub fn open<T: DeserializeOwned>(&self, token: &str) -> Result<T> {
        self.keys.open(token, &keys::header(token)?)
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
            return Err(forged("it was made by somebody else"));
        }
        if let Some(wanted) = &self.audience
            && !claims.aud.as_ref().is_some_and(|aud| aud.contains(wanted))
        {
            return Err(forged("it was made for somebody else"));
        }
        Times::from(claims).check(now, LEEWAY)
    }
}

/// What a token claims, before anybody knows whether it may be believed: good for choosing the key to hold it against,
/// and for nothing else.
///
/// # Errors
/// `Unauthenticated` (`token_malformed`) for what is not a JWT.
pub fn unverified(token: &str) -> Result<serde_json::Map<String, serde_json::Value>> {
    keys::header(token)?;
    part(token, 1)
}

/// What a token's header says, as [`unverified`] tells of its claims.
///
/// # Errors
/// `Unauthenticated` (`token_malformed`) for what is no token.
pub fn unverified_header(token: &str) -> Result<serde_json::Map<String, serde_json::Value>> {
    keys::header(token)?;
    part(token, 0)
}

fn part(token: &str, number: usize) -> Result<serde_json::Map<String, serde_json::Value>> {
    use base64::Engine;
    let part = token.split('.').nth(number).ok_or_else(malformed)?;
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| malformed())?;
    serde_json::from_slice(&json).map_err(|_| malformed())
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("keys", &self.keys)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
