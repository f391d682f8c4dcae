//! auth-service: accounts, passwords and tokens.

mod http;
mod sync;
mod tables;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Migration, Service, Signer};

use crate::events::UserRegistered;

/// The service's name.
pub const NAME: &str = "auth-service";
/// Who issues the store's tokens.
pub const ISSUER: &str = "storefront";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_accounts",
    sql: include_str!("auth/0001_accounts.sql"),
}];

/// The `[service.auth-service]` section.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a token is good for, in seconds.
    pub token_seconds: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            token_seconds: 3_600,
        }
    }
}

/// The service.
pub fn service(signer: Signer) -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .config::<Config>()
        .migrations(MIGRATIONS)
        .state(signer)
        .publishes::<UserRegistered>()
        .on_start(sync::open_demo_account)
        .post("/api/auth/register", http::register)
        .post("/api/auth/login", http::login)
}
