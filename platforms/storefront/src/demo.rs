//! The demo user, and tokens for users at hand.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use trunkline::{Claims, Env};

use crate::auth;
use crate::events::Address;

/// The demo user's name.
pub const USERNAME: &str = "demo";
/// The demo user's password.
pub const PASSWORD: &str = "demo-password";
/// Where the demo user's mail goes.
pub const EMAIL: &str = "demo@storefront.example";

/// The id of the user of this name. It follows from the name, so that `storefront token` can make a
/// token for anybody without asking the running store.
pub fn user_id(username: &str) -> String {
    let name = format!("storefront user {}", username.trim().to_lowercase());
    let digest: [u8; 32] = Sha256::digest(name).into();
    let mut id = [0; 16];
    id.iter_mut()
        .zip(digest)
        .for_each(|(into, byte)| *into = byte);
    uuid::Builder::from_custom_bytes(id).into_uuid().to_string()
}

/// What a token of this user says.
pub fn claims(username: &str, roles: &[String], lifetime: Duration, env: &Env) -> Claims {
    let claims = Claims::new(user_id(username), lifetime, env)
        .issued_by(auth::ISSUER)
        .named(username);
    roles
        .iter()
        .fold(claims, |claims, role| claims.with_role(role.clone()))
}

/// Where the demo user lives.
pub fn address() -> Address {
    Address {
        address_line1: "123 Main St".to_owned(),
        address_line2: None,
        city: "San Francisco".to_owned(),
        state: "CA".to_owned(),
        postal_code: "94105".to_owned(),
        country: "US".to_owned(),
    }
}
