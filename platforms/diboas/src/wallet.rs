//! wallet-service: who has how much, in a ledger of double entry.
//!
//! Money is only ever moved from one account to another: a user's, a transaction's hold, or `outside`, where it comes from and
//! goes to. So the sum of all accounts is zero in each currency, always.

mod book;
mod http;
mod sync;

use trunkline::{Migration, Service};

use crate::events::WalletUpdated;

pub use http::{Balance, Deposit, Hold, HoldStatus, NewDeposit, NewHold, Sum};

/// The service's name.
pub const NAME: &str = "wallet-service";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_ledger",
    sql: include_str!("wallet/0001_ledger.sql"),
}];

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .migrations(MIGRATIONS)
        .publishes::<WalletUpdated>()
        .get("/api/v1/wallet", http::balances)
        .idempotent_post("/api/v1/wallet/deposits", http::deposit)
        .get("/api/v1/wallet/ledger", http::sums)
        .post("/api/v1/holds", http::hold)
        .post("/api/v1/holds/{transaction_id}/release", http::release)
        .on(sync::completed)
        .on_dead_letter(crate::letters::handle_failed_message)
}
