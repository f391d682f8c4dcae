//! user-service: profiles, names, what users have played, and what they have achieved.

mod achievements;
mod http;
mod sync;
mod tables;

use trunkline::{Migration, Service};

use crate::events::{AchievementEarned, ProfileUpdated};
use crate::wallet;

pub use http::{ChangeProfile, Earned, NameClaim, Named, Profile, Statistics};

/// The service's name.
pub const NAME: &str = "user-service";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_users",
    sql: include_str!("user/0001_users.sql"),
}];

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .migrations(MIGRATIONS)
        .calls_operation(wallet::NAME, "GET /users/{user_id}/wallets")
        .calls_operation(wallet::NAME, "POST /users/{user_id}/wallets")
        .publishes::<ProfileUpdated>()
        .publishes::<AchievementEarned>()
        .get("/api/v1/users/me", http::me)
        .put("/api/v1/users/me", http::change)
        .get("/api/v1/users/{user_id}", http::profile)
        .get("/api/v1/users/{user_id}/wallets", http::wallets)
        .post("/internal/usernames", http::claim_name)
        .get("/internal/users/{user_id}/name", http::name)
        .on(sync::registered)
        .on(sync::completed)
}
