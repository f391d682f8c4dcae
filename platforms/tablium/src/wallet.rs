//! wallet-service: who has how many points, in a ledger of double entry.
//!
//! Points are only ever moved from one account to another: a user's, what is held for a match, or the house's, from where they
//! come. So the sum of all accounts is zero, always. It calls nobody: what a match needs is asked by events, and answered so.

mod book;
mod http;
mod stakes;
mod sync;

use trunkline::{Migration, Responses, Service};

use crate::Points;
use crate::events::{BalanceUpdated, HoldDecided, MatchSettled, TransactionCreated, WalletCreated};

pub use http::{Sums, Wallet};

/// The service's name.
pub const NAME: &str = "wallet-service";
/// What newcomers begin with.
pub const WELCOME: Points = Points::whole(1_000);

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_ledger",
    sql: include_str!("wallet/0001_ledger.sql"),
}];

/// The service. Its answers are `{"data": …}`.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .responses(Responses::Data)
        .migrations(MIGRATIONS)
        .publishes::<WalletCreated>()
        .publishes::<TransactionCreated>()
        .publishes::<BalanceUpdated>()
        .publishes::<HoldDecided>()
        .publishes::<MatchSettled>()
        .get("/users/{user_id}/wallets", http::wallets)
        .post("/users/{user_id}/wallets", http::create)
        .get("/api/v1/ledger", http::sums)
        .on(sync::hold)
        .on(sync::release)
        .on(sync::settle)
}
