//! Making tokens.

use std::fmt;

use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use trunkline_core::{Error, Result};

use crate::error::bad_key;
use crate::jwks::{check_modulus, thumbprint};
use crate::{Claims, Secret};

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
        let mut public = Jwk::from_encoding_key(&key, Algorithm::RS256)
            .map_err(|error| bad_key(expected).with_source(error))?;
        check_modulus(&public)?;
        let kid = thumbprint(&public)?;
        public.common.key_id = Some(kid.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        let mut header = Header::new(Algorithm::RS256);
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
        jsonwebtoken::encode(&self.header, claims, &self.key)
            .map_err(|error| Error::internal("the token can't be signed").with_source(error))
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
