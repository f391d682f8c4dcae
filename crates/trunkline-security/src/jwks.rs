//! Keys as JSON (RFC 7517).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
    ThumbprintHash,
};
use trunkline_core::{Error, Result};

use crate::error::bad_key;

/// The least modulus: 2048 bits (RFC 7518, 3.3).
const MODULUS_BYTES_MIN: usize = 256;
/// A coordinate of P-256, and a point of Ed25519.
const POINT_BYTES: usize = 32;

/// The algorithm that a key of a set verifies, if it is one for that. Sets hold keys for other ends too, and
/// symmetric keys have no place in one that is published.
pub(crate) fn verifies(key: &Jwk) -> Option<Algorithm> {
    let (algorithm, named) = match &key.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let common = &key.common;
    let named_so = common.key_algorithm.is_none_or(|given| given == named);
    let signs = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
    let operates = common
        .key_operations
        .as_ref()
        .is_none_or(|all| all.contains(&KeyOperations::Verify));
    (named_so && signs && operates).then_some(algorithm)
}

/// Checks that a key is as long as its algorithm wants it.
pub(crate) fn check_size(key: &Jwk) -> Result<()> {
    match &key.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let bytes = decode(&rsa.n)?.len();
            if bytes < MODULUS_BYTES_MIN {
                return Err(
                    bad_key("expected an RSA key of at least 2048 bits").with("found", bytes * 8)
                );
            }
            Ok(())
        }
        AlgorithmParameters::EllipticCurve(ec) => point(&ec.x).and_then(|()| point(&ec.y)),
        AlgorithmParameters::OctetKeyPair(okp) => point(&okp.x),
        _ => Err(bad_key("expected a public key")),
    }
}

fn point(text: &str) -> Result<()> {
    let bytes = decode(text)?.len();
    if bytes != POINT_BYTES {
        return Err(bad_key("expected a coordinate of 32 bytes").with("found", bytes));
    }
    Ok(())
}

fn decode(text: &str) -> Result<Vec<u8>> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|error| bad_key("expected the parts of a key in base64url").with_source(error))
}

pub(crate) fn thumbprint(key: &Jwk) -> Result<String> {
    key.thumbprint(ThumbprintHash::SHA256)
        .map_err(|error| Error::internal("the key has no thumbprint").with_source(error))
}
