//! transaction-service: carries transfers over chains to their end.
//!
//! A transfer is accepted, queued with the financial operations, and carried out as a saga: it is screened, its money is set
//! aside, and it leaves its chain, crosses over and arrives, each leg at a provider of its own choice. If it can't arrive,
//! everything is taken back, the last thing first.

mod health;
mod http;
mod saga;
mod status;
mod sync;
mod tables;

use trunkline::{Migration, SagaDefinition, Service};

use crate::events::{TransactionCompleted, TransactionFailed, TransactionSubmitted};

pub use health::HealthReport;
pub use http::{NewTransfer, Status, Transaction};
pub use saga::Transfer;
pub use status::{Consolidated, LegStanding};

/// The service's name.
pub const NAME: &str = "transaction-service";
/// The saga of a transfer.
pub const TRANSFER: &str = "cross-chain-transfer";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_transactions",
    sql: include_str!("transaction/0001_transactions.sql"),
}];

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .migrations(MIGRATIONS)
        .calls(crate::wallet::NAME)
        .calls(crate::provider::NAME)
        .calls(crate::compliance::NAME)
        .publishes::<TransactionSubmitted>()
        .publishes::<TransactionCompleted>()
        .publishes::<TransactionFailed>()
        .idempotent_post("/api/v1/transactions", http::submit)
        .get("/api/v1/transactions", http::list)
        .get("/api/v1/transactions/{transaction_id}", http::find)
        .get(
            "/api/v1/transactions/{transaction_id}/status",
            status::consolidated,
        )
        .get("/api/v1/health", health::report)
        .on(sync::submitted)
        .on(sync::flagged)
        .on_dead_letter(crate::letters::handle_failed_message)
        .saga(
            SagaDefinition::named(TRANSFER)
                .version(1, saga::transfer)
                .failed(saga::failed),
        )
}
