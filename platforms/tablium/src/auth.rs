//! auth-service: accounts, passwords and tokens.

mod http;
mod tables;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Migration, Service, Signer};

use crate::events::UserRegistered;
use crate::user;

/// The service's name.
pub const NAME: &str = "auth-service";
/// Who issues the tokens.
pub const ISSUER: &str = "tablium";

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
            token_seconds: 86_400,
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
        .calls_operation(user::NAME, "POST /internal/usernames")
        .publishes::<UserRegistered>()
        .post("/api/v1/auth/register", http::register)
        .post("/api/v1/auth/login", http::login)
}
