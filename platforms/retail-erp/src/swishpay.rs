//! The sandbox of swishpay, the payment gateway: it charges cards that do not exist.
//!
//! It stands for what the ERP does not own: a platform of its own with one service, reached by HTTP, which keeps its own
//! ledger. What a card does is said by its token:
//!
//! | token | what happens |
//! |---|---|
//! | `tok_visa`, or any that is not below | charged at once |
//! | `tok_insufficient` | declined, `insufficient_funds` |
//! | `tok_declined` | declined, `card_declined` |
//! | `tok_slow` | pending at first; charged when asked again |
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/charges` | the [`Charge`]; the same key is charged once |
//! | `POST /v1/charges/{key}/void` | the charge, given back or never to be made |
//! | `GET /v1/charges` | the whole ledger |

use std::net::SocketAddr;
use std::path::Path as FilePath;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{
    Config, Conn, Cx, Error, Json, Migration, Money, Path, Platform, Result, Running, Service, sql,
};

/// The service's name, and what the ERP calls it by.
pub const NAME: &str = "swishpay";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_charges",
    sql: include_str!("swishpay/0001_charges.sql"),
}];

/// What to charge.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewCharge {
    /// The merchant's own name of it.
    pub key: String,
    /// How much.
    pub amount: Money,
    /// The card's token.
    pub card_token: String,
}

/// One charge in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Charge {
    /// The merchant's own name of it.
    pub key: String,
    /// How much.
    pub amount: Money,
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
    /// It never will be taken.
    Voided,
    /// The money was taken and given back.
    Refunded,
}

/// A running sandbox.
#[derive(Debug)]
pub struct Swishpay(Running);

impl Swishpay {
    /// Starts it, with its ledger in a folder.
    ///
    /// # Errors
    /// Those of [`Platform::start`].
    pub async fn start(folder: &FilePath, listen: SocketAddr) -> Result<Self> {
        let mut config = Config::default();
        config.data = folder.to_owned();
        config.bus = "memory:".to_owned();
        config.admin.address = SocketAddr::from(([127, 0, 0, 1], 0));
        let section = config.service.entry(NAME.to_owned()).or_default();
        section.insert("listen".to_owned(), listen.to_string().into());
        let platform = Platform::new("swishpay-sandbox").service(service());
        Ok(Self(platform.start(config).await?))
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        let address = self.0.service_address(NAME);
        address.map_or_else(String::new, |address| format!("http://{address}"))
    }

    /// Ends it in order.
    pub async fn shutdown(self) {
        self.0.shutdown().await;
    }
}

fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .migrations(MIGRATIONS)
        .post("/v1/charges", charge)
        .get("/v1/charges", ledger)
        .post("/v1/charges/{key}/void", void)
}

async fn charge(cx: Cx, Json(new): Json<NewCharge>) -> Result<Json<Charge>> {
    let (status, reason) = match new.card_token.as_str() {
        "tok_insufficient" => (ChargeStatus::Declined, Some("insufficient_funds")),
        "tok_declined" => (ChargeStatus::Declined, Some("card_declined")),
        "tok_slow" => (ChargeStatus::Pending, None),
        _ => (ChargeStatus::Succeeded, None),
    };
    let reason = reason.map(str::to_owned);
    let made = Charge {
        key: new.key,
        amount: new.amount,
        status,
        reason,
    };
    let mut tx = cx.tx().await?;
    if insert(tx.conn(), &made).await? {
        return Ok(Json(made));
    }
    let there = lock(tx.conn(), &made.key).await?;
    match there.status {
        ChargeStatus::Pending => settle(tx.conn(), there, ChargeStatus::Succeeded)
            .await
            .map(Json),
        _ => Ok(Json(there)),
    }
}

async fn void(cx: Cx, Path(key): Path<String>) -> Result<Json<Charge>> {
    let voided = Charge {
        key,
        amount: Money::ZERO,
        status: ChargeStatus::Voided,
        reason: None,
    };
    let mut tx = cx.tx().await?;
    if insert(tx.conn(), &voided).await? {
        return Ok(Json(voided));
    }
    let there = lock(tx.conn(), &voided.key).await?;
    let status = match there.status {
        ChargeStatus::Succeeded => ChargeStatus::Refunded,
        ChargeStatus::Pending => ChargeStatus::Voided,
        _ => return Ok(Json(there)),
    };
    settle(tx.conn(), there, status).await.map(Json)
}

async fn ledger(cx: Cx) -> Result<Json<Vec<Charge>>> {
    let mut reader = cx.read().await?;
    let text = "SELECT key, amount_minor, status, reason FROM charges ORDER BY key";
    let rows = sql(text).all::<Row>(reader.conn()).await?;
    rows.into_iter().map(read).collect::<Result<_>>().map(Json)
}

type Row = (String, i64, String, Option<String>);

fn read((key, amount, status, reason): Row) -> Result<Charge> {
    let status = serde_json::from_value(status.into());
    Ok(Charge {
        key,
        amount: Money::from_minor(amount)?,
        status: status.map_err(|error| Error::internal("a status is known").with_source(error))?,
        reason,
    })
}

fn name(status: ChargeStatus) -> &'static str {
    match status {
        ChargeStatus::Pending => "pending",
        ChargeStatus::Succeeded => "succeeded",
        ChargeStatus::Declined => "declined",
        ChargeStatus::Voided => "voided",
        ChargeStatus::Refunded => "refunded",
    }
}

/// Writes a new charge. Says whether it is new.
async fn insert(conn: &mut Conn, charge: &Charge) -> Result<bool> {
    let text = "INSERT INTO charges (key, amount_minor, status, reason) VALUES ($1, $2, $3, $4) \
                ON CONFLICT DO NOTHING";
    let inserted = sql(text)
        .bind(&charge.key)
        .bind(charge.amount)
        .bind(name(charge.status))
        .bind(&charge.reason)
        .run(conn)
        .await?;
    Ok(inserted == 1)
}

async fn lock(conn: &mut Conn, key: &str) -> Result<Charge> {
    let text = "UPDATE charges SET status = status WHERE key = $1 \
                RETURNING key, amount_minor, status, reason";
    read(sql(text).bind(key).one::<Row>(conn).await?)
}

async fn settle(conn: &mut Conn, charge: Charge, status: ChargeStatus) -> Result<Charge> {
    let text = "UPDATE charges SET status = $1 WHERE key = $2";
    sql(text)
        .bind(name(status))
        .bind(&charge.key)
        .run(conn)
        .await?;
    Ok(Charge { status, ..charge })
}
