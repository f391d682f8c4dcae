//! user-service: profiles and addresses.

mod http;
mod sync;
mod tables;

use trunkline::{Migration, Service};

use crate::events::UserUpdated;

pub use http::{ChangeProfile, Profile, StoredAddress};

/// The service's name.
pub const NAME: &str = "user-service";

/// The code of the error of an address that is not known.
pub const ADDRESS_UNKNOWN: &str = "address_unknown";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_users",
    sql: include_str!("user/0001_users.sql"),
}];

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .migrations(MIGRATIONS)
        .publishes::<UserUpdated>()
        .on_start(sync::give_demo_user_an_address)
        .get("/api/users/me", http::profile)
        .put("/api/users/me", http::change_profile)
        .get("/api/users/me/addresses", http::addresses)
        .post("/api/users/me/addresses", http::add_address)
        .get("/api/users/me/addresses/default", http::default_address)
        .delete("/api/users/me/addresses/{address_id}", http::remove_address)
        .on(sync::registered)
}
