//! The payment provider's sandbox: a separate HTTP server that charges cards which do not exist.
//!
//! It stands for what the store does not own: it is not a service of the platform, and keeps its own
//! ledger. What a card does is said by its token:
//!
//! | token | what happens |
//! |---|---|
//! | `tok_visa`, or any that is not below | charged at once |
//! | `tok_declined` | declined, `card_declined` |
//! | `tok_insufficient` | declined, `insufficient_funds` |
//! | `tok_timeout` | no answer, and never charged |
//! | `tok_late` | charged, but the answer comes late ([`Options::late`]) |
//! | `tok_late_declined` | declined, but the answer comes late |
//! | `tok_flaky` | the first request fails with 500, the second is charged |
//!
//! Whatever the card, an amount of 10,000.00 or more is declined, `amount_limit`.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/charges`, header `Idempotency-Key` | the [`Charge`]; the same key is charged once |
//! | `GET /v1/charges/{key}` | the charge, or 404 |
//! | `POST /v1/charges/{key}/void` | the charge, given back or never to be made |
//! | `GET /v1/charges` | the whole ledger |

mod http;
mod ledger;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use trunkline::{Env, Error, Result};

use ledger::Ledger;

/// Where the sandbox listens if nobody says otherwise.
pub const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9910);
/// How late a late answer is if nobody says otherwise: later than the store waits.
pub const LATE: Duration = Duration::from_secs(8);

/// How the sandbox runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the ledger is kept; in memory only if not given.
    pub ledger: Option<PathBuf>,
    /// How late a late answer is.
    pub late: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ledger: None,
            late: LATE,
        }
    }
}

/// Opens the address that the sandbox is to listen on.
///
/// # Errors
/// `Unavailable`, naming the address.
pub async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let text =
            "the payment sandbox's address can't be used; stop what listens there or choose another";
        Error::unavailable("address_unusable", text)
            .with("address", address)
            .with_source(error)
    })
}

/// What to charge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChargeRequest {
    /// How much, in minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// The card's token.
    pub source: String,
    /// What it is for, in the merchant's words.
    pub reference: String,
}

/// One charge in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Charge {
    /// The provider's id, such as `ch_3ABC123`.
    pub id: String,
    /// The merchant's idempotency key.
    pub key: String,
    /// What was asked for.
    #[serde(flatten)]
    pub request: ChargeRequest,
    /// How it stands.
    pub status: ChargeStatus,
    /// Why it was declined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How a charge stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChargeStatus {
    /// Not decided yet.
    Pending,
    /// The money was taken.
    Succeeded,
    /// The money was not taken.
    Declined,
    /// Voided before the money was taken; it never will be.
    Voided,
    /// The money was taken and given back.
    Refunded,
}

/// A running sandbox; it stops when dropped.
#[derive(Debug)]
pub struct Sandbox {
    addr: SocketAddr,
    server: JoinHandle<()>,
}

impl Sandbox {
    /// Starts the sandbox on a listener.
    ///
    /// # Errors
    /// `Unavailable` when the ledger can't be opened, `Corrupt` when it can't be read.
    pub fn start(listener: TcpListener, options: Options, env: Env) -> Result<Self> {
        let addr = listener.local_addr().map_err(|error| {
            Error::unavailable("sandbox_unusable", "the sandbox can't use its listener")
                .with_source(error)
        })?;
        let ledger = Arc::new(Ledger::open(options, env)?);
        let router = http::router(ledger);
        #[expect(
            clippy::disallowed_methods,
            reason = "the handle is kept, and aborted on drop"
        )]
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the payment sandbox stopped");
            }
        });
        Ok(Self { addr, server })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.abort();
    }
}
