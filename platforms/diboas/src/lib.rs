//! The finance platform: wallets, transactions, the providers that carry them out, and compliance, with a gateway in front.
//!
//! [`platform`] is the whole declaration; [`Finance`] runs it, or a part of it. Each service is a module with its own tables,
//! routes and handlers, and knows of the others what they publish and answer:
//!
//! | service | does |
//! |---|---|
//! | [`wallet`] | who has how much, in a ledger of double entry |
//! | [`transaction`] | carries transfers over chains to their end, as sagas |
//! | [`provider`] | chooses who carries out each leg, and has it done or taken back |
//! | [`compliance`] | says which transfers may go |

mod amount;
pub mod chains;
pub mod compliance;
pub mod events;
mod finance;
pub mod gateway;
pub mod letters;
pub mod limits;
pub mod program;
pub mod provider;
pub mod transaction;
pub mod wallet;
mod welcome;
mod words;

use trunkline::Platform;

pub use amount::{Amount, Currency};
pub use finance::{Finance, token};
pub use program::Options;

/// The role of those who run the platform.
pub const STAFF: &str = "staff";

/// The platform's declaration, without a gateway.
pub fn platform() -> Platform {
    Platform::new("diboas")
        .version(env!("CARGO_PKG_VERSION"))
        .service(wallet::service())
        .service(transaction::service())
        .service(provider::service())
        .service(compliance::service())
}
