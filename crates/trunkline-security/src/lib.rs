//! Tokens and keys: who a caller is.
//!
//! A [`Signer`] makes tokens with a [`Secret`] or an RSA key; a [`Verifier`] tells whose a token is, or refuses
//! it with one of four codes (`token_missing`, `token_malformed`, `token_expired`, `token_forged`) and no word
//! about which check it was that failed. The algorithm belongs to the key, never to the token.

mod claims;
mod error;
mod jwks;
mod secret;
mod signer;
mod verifier;

pub use claims::{Audience, Claims};
pub use secret::Secret;
pub use signer::Signer;
pub use verifier::Verifier;
