//! Keys as JSON (RFC 7517).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, KeyAlgorithm, PublicKeyUse, ThumbprintHash};
use trunkline_core::{Error, Result};

use crate::error::bad_key;

/// The least modulus: 2048 bits (RFC 7518, 3.3).
const MODULUS_BYTES_MIN: usize = 256;

/// Whether a key of a set is one for verifying RS256. Sets hold keys for other ends too.
pub(crate) fn verifies_rs256(key: &Jwk) -> bool {
    let algorithm = &key.common.key_algorithm;
    let usage = &key.common.public_key_use;
    matches!(key.algorithm, AlgorithmParameters::RSA(_))
        && matches!(algorithm, None | Some(KeyAlgorithm::RS256))
        && matches!(usage, None | Some(PublicKeyUse::Signature))
}

pub(crate) fn check_modulus(key: &Jwk) -> Result<()> {
    let AlgorithmParameters::RSA(rsa) = &key.algorithm else {
        return Err(bad_key("expected an RSA key"));
    };
    let bytes = URL_SAFE_NO_PAD
        .decode(&rsa.n)
        .map_err(|error| bad_key("expected the modulus in base64url").with_source(error))?;
    if bytes.len() < MODULUS_BYTES_MIN {
        return Err(
            bad_key("expected an RSA key of at least 2048 bits").with("found", bytes.len() * 8)
        );
    }
    Ok(())
}

pub(crate) fn thumbprint(key: &Jwk) -> Result<String> {
    key.thumbprint(ThumbprintHash::SHA256)
        .map_err(|error| Error::internal("the key has no thumbprint").with_source(error))
}
