//! Tokens, keys and certificates: who a caller is and what they may; sealed data; the audit log.
//!
//! A [`Signer`] makes tokens of users; a [`Verifier`] tells whose a token is, or refuses it with one of four codes
//! (`token_missing`, `token_malformed`, `token_expired`, `token_forged`) and no word about which check it was that
//! failed. The algorithm belongs to the key, never to the token.
//!
//! Services prove who they are with [`ServiceTokens`], short-lived and made for one target, and a [`Guard`] holds
//! them to the [`Permissions`] that the topology declares. On the wire [`Certificates`] do the same.
//! A [`Keyring`] seals: events by an [`EventSealer`], single texts by itself. What is refused goes to the
//! [`Audit`]. People's passwords are kept as [`password`] hashes them.

mod admin_token;
mod audit;
mod claims;
mod error;
mod guard;
mod jwks;
mod keyring;
mod keys;
pub mod password;
mod payload;
mod permissions;
mod secret;
mod signer;
mod tls;
mod tokens;
mod verifier;

pub use admin_token::AdminToken;
pub use audit::{Audit, AuditConfig, AuditEntry, AuditOutcome, AuditSink, AuditWriter};
pub use claims::{Audience, Claims, Times};
pub use guard::{Guard, Shown};
pub use keyring::{Keyring, KeyringConfig};
pub use payload::EventSealer;
pub use permissions::{Denied, EVERY_OPERATION, Permissions};
pub use secret::Secret;
pub use signer::Signer;
pub use tls::{
    Authority, Certificates, CertificatesConfig, Identity, Issued, Overview, Reloaded, RotateStep,
};
pub use tokens::{
    KeyPublisher, Opened, Published, RemoteKeys, RemoteKeysPolicy, SERVICE_TOKEN, ServiceClaims,
    ServiceTokens, TokenKeys, TokenKeysPolicy,
};
pub use verifier::{LEEWAY, Verifier, unverified, unverified_header};

/// The refusals of tokens, for whoever looks at more of them than a [`Verifier`] does.
pub mod refusals {
    pub use crate::error::{expired, forged, malformed, missing};
}
