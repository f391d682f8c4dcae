//! Making tokens.

use std::fmt;

use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use trunkline_core::{Error, Result};

use crate::error::bad_key;
use crate::jwks::{check_size, thumbprint, verifies};
use crate::{Claims, Secret};

/// What stands before the 32 bytes of a private key of Ed25519 in PKCS #8 (RFC 8410, 7).
const ED25519_PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Makes tokens with one key; never prints it.
#[derive(Clone)]
pub struct Signer {
    key: EncodingKey,
    header: Header,
    public: Option<Jwk>,
}

impl Signer {
    /// Signs with HMAC SHA-256: whoever can verify can also sign.
    pub fn hs256(secret: &Secret) -> Self {
        Self {
            key: EncodingKey::from_secret(secret.bytes()),
            header: Header::new(Algorithm::HS256),
            public: None,
        }
    }

    /// Signs with RSA (PKCS #1 v1.5, SHA-256): the public half may be published as [`Signer::jwks`]. The key's
    /// RFC 7638 thumbprint names it.
    ///
    /// # Errors
    /// `InvalidInput` for anything but a private RSA key of at least 2048 bits in PEM.
    pub fn rs256_pem(pem: &str) -> Result<Self> {
        let expected = "expected a private RSA key in PEM";
        let key = EncodingKey::from_rsa_pem(pem.as_bytes())
            .map_err(|error| bad_key(expected).with_source(error))?;
        Self::public(key, Algorithm::RS256, expected)
    }

    /// Signs with ECDSA (P-256, SHA-256); published and named as [`Signer::rs256_pem`].
    ///
    /// # Errors
    /// `InvalidInput` for anything but a private key of P-256 in PEM (PKCS #8).
    pub fn es256_pem(pem: &str) -> Result<Self> {
        let expected = "expected a private key of P-256 in PEM";
        let key = EncodingKey::from_ec_pem(pem.as_bytes())
            .map_err(|error| bad_key(expected).with_source(error))?;
        Self::public(key, Algorithm::ES256, expected)
    }

    /// Signs with EdDSA (Ed25519), whose private key is the 32 bytes of `secret`; published and named as
    /// [`Signer::rs256_pem`].
    ///
    /// # Errors
    /// `InvalidInput` for a secret of another length.
    pub fn ed25519(secret: &Secret) -> Result<Self> {
        let expected = "expected a private key of exactly 32 bytes";
        let mut pkcs8 = ED25519_PKCS8.to_vec();
        pkcs8.extend_from_slice(secret.bytes());
        Self::public(EncodingKey::from_ed_der(&pkcs8), Algorithm::EdDSA, expected)
    }

    fn public(key: EncodingKey, algorithm: Algorithm, expected: &'static str) -> Result<Self> {
        let mut public = Jwk::from_encoding_key(&key, algorithm)
            .map_err(|error| bad_key(expected).with_source(error))?;
        if verifies(&public) != Some(algorithm) {
            return Err(bad_key(expected));
        }
        check_size(&public)?;
        let kid = thumbprint(&public)?;
        public.common.key_id = Some(kid.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        let mut header = Header::new(algorithm);
        header.kid = Some(kid);
        Ok(Self {
            key,
            header,
            public: Some(public),
        })
    }

    /// A token with these claims.
    ///
    /// # Errors
    /// `Unauthenticated` for a `sub` that no verifier would take; `Internal` when the key fails.
    pub fn sign(&self, claims: &Claims) -> Result<String> {
        claims.check_subject()?;
        self.sign_as(&self.header, claims)
    }

    /// A token of a type of its own (RFC 8725, 3.11), so that none is taken for another.
    pub(crate) fn sign_typed(&self, typ: &str, claims: &impl Serialize) -> Result<String> {
        let mut header = self.header.clone();
        header.typ = Some(typ.to_owned());
        self.sign_as(&header, claims)
    }

    fn sign_as(&self, header: &Header, claims: &impl Serialize) -> Result<String> {
        jsonwebtoken::encode(header, claims, &self.key)
            .map_err(|error| Error::internal("the token can't be signed").with_source(error))
    }

    /// The public key as a JWK, if there is one.
    pub(crate) fn jwk(&self) -> Option<&Jwk> {
        self.public.as_ref()
    }

    /// The JWKS document that others verify with: the public key, or no key at all for HS256.
    pub fn jwks(&self) -> serde_json::Value {
        serde_json::json!({ "keys": self.public.iter().collect::<Vec<_>>() })
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("algorithm", &self.header.alg)
            .field("key_id", &self.header.kid)
            .finish_non_exhaustive()
    }
}
