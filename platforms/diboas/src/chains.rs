//! The sandbox of the chains: three providers that reach three chains that do not exist.
//!
//! It stands for what the platform does not own: a platform of its own with one service, reached by HTTP, which keeps its own
//! ledger. What a provider does is said by its faults:
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/{provider}/quotes` | what a leg would cost |
//! | `POST /v1/{provider}/legs` | the [`Leg`], done; the same key is done once |
//! | `POST /v1/{provider}/legs/{key}/reverse` | the leg, taken back, or never to be done |
//! | `GET /v1/{provider}/legs/{key}` | how it stands |
//! | `GET /v1/legs` | the whole ledger |
//! | `PUT /v1/faults/{provider}` | lets it be `down` (503), `refusing` (409) or `forgetful` (does it, and answers nothing) from now on |

use std::net::SocketAddr;
use std::path::Path as FilePath;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{
    Config, Conn, Cx, Error, Json, Migration, Path, Platform, Result, Running, Service, sql,
};

use crate::words::{of_word, word};
use crate::{Amount, Currency};

/// The service's name.
pub const NAME: &str = "chains";
/// Its providers.
pub const PROVIDERS: [&str; 3] = ["meridian", "polaris", "quasar"];

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_legs",
    sql: include_str!("chains/0001_legs.sql"),
}];

/// A chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Chain {
    /// Bitcoin.
    Bitcoin,
    /// Ethereum.
    Ethereum,
    /// Solana.
    Solana,
}

impl Chain {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bitcoin => "bitcoin",
            Self::Ethereum => "ethereum",
            Self::Solana => "solana",
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewLeg {
    /// The customer's own name of it: it is done once.
    pub key: String,
    /// On which chain.
    pub chain: Chain,
    /// How much is moved.
    pub amount: Amount,
}

/// What it would cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// In hundredths of a per cent.
    pub fee_bps: u32,
}

/// One leg in the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Leg {
    /// Who did it.
    pub provider: String,
    /// The customer's own name of it.
    pub key: String,
    /// On which chain.
    pub chain: Chain,
    /// How much was moved.
    pub amount: Amount,
    /// How it stands.
    pub status: LegStatus,
    /// Its name on the chain.
    pub tx_hash: String,
}

/// How a leg stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LegStatus {
    /// It is done.
    Done,
    /// It was done and taken back.
    Reversed,
    /// It was taken back before it was done, and never will be.
    Void,
}

/// What a provider does from now on.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    /// `well`, `down`, `refusing` or `forgetful`.
    pub mode: Mode,
}

/// How a provider is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It does what it is asked.
    Well,
    /// It answers nothing but 503.
    Down,
    /// It gives quotes and refuses legs.
    Refusing,
    /// It does legs and answers `null`.
    Forgetful,
}

/// A running sandbox.
#[derive(Debug)]
pub struct Chains(Running);

impl Chains {
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
        let platform = Platform::new("chains-sandbox").service(service());
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
        .post("/v1/{provider}/quotes", quote)
        .post("/v1/{provider}/legs", carry_out)
        .get("/v1/{provider}/legs/{key}", find)
        .post("/v1/{provider}/legs/{key}/reverse", reverse)
        .get("/v1/legs", ledger)
        .put("/v1/faults/{provider}", set_faults)
}

async fn quote(
    cx: Cx,
    Path(provider): Path<String>,
    Json(_asked): Json<NewLeg>,
) -> Result<Json<Offer>> {
    let at = known(&provider)?;
    let mut reader = cx.read().await?;
    is_up(mode(reader.conn(), &provider).await?)?;
    let fee_bps = 10 + 5 * u32::try_from(at).unwrap_or(0);
    Ok(Json(Offer { fee_bps }))
}

async fn carry_out(
    cx: Cx,
    Path(provider): Path<String>,
    Json(new): Json<NewLeg>,
) -> Result<Json<Option<Leg>>> {
    known(&provider)?;
    let made = Leg {
        tx_hash: format!("0x{}", cx.env().id().simple()),
        provider,
        key: new.key,
        chain: new.chain,
        amount: new.amount,
        status: LegStatus::Done,
    };
    let mut tx = cx.tx().await?;
    let mode = mode(tx.conn(), &made.provider).await?;
    is_up(mode)?;
    if mode == Mode::Refusing {
        return Err(Error::conflict(
            "leg_refused",
            "the provider does not take this leg",
        ));
    }
    let there = match insert(tx.conn(), &made).await? {
        true => made,
        false => find_in(tx.conn(), &made.provider, &made.key).await?,
    };
    drop(tx);
    if there.status != LegStatus::Done {
        return Err(Error::conflict(
            "leg_void",
            "the leg was taken back: it is not done any more",
        ));
    }
    Ok(Json((mode != Mode::Forgetful).then_some(there)))
}

async fn reverse(cx: Cx, Path((provider, key)): Path<(String, String)>) -> Result<Json<Leg>> {
    known(&provider)?;
    let void = Leg {
        provider,
        key,
        chain: Chain::Bitcoin,
        amount: Amount::of_minor(0, Currency::Usd),
        status: LegStatus::Void,
        tx_hash: String::new(),
    };
    let mut tx = cx.tx().await?;
    is_up(mode(tx.conn(), &void.provider).await?)?;
    if insert(tx.conn(), &void).await? {
        return Ok(Json(void));
    }
    let text =
        "UPDATE legs SET status = 'reversed' WHERE provider = $1 AND key = $2 AND status = 'done'";
    sql(text)
        .bind(&void.provider)
        .bind(&void.key)
        .run(tx.conn())
        .await?;
    find_in(tx.conn(), &void.provider, &void.key)
        .await
        .map(Json)
}

async fn find(cx: Cx, Path((provider, key)): Path<(String, String)>) -> Result<Json<Leg>> {
    known(&provider)?;
    let mut reader = cx.read().await?;
    is_up(mode(reader.conn(), &provider).await?)?;
    find_in(reader.conn(), &provider, &key).await.map(Json)
}

async fn ledger(cx: Cx) -> Result<Json<Vec<Leg>>> {
    let mut reader = cx.read().await?;
    let text = "SELECT provider, key, chain, currency, amount_minor, status, tx_hash FROM legs ORDER BY key, provider";
    let rows = sql(text).all::<Row>(reader.conn()).await?;
    rows.into_iter().map(read).collect::<Result<_>>().map(Json)
}

async fn set_faults(
    cx: Cx,
    Path(provider): Path<String>,
    Json(faults): Json<Faults>,
) -> Result<Json<Faults>> {
    known(&provider)?;
    let mut tx = cx.tx().await?;
    let text = "INSERT INTO faults (provider, mode) VALUES ($1, $2) \
                ON CONFLICT (provider) DO UPDATE SET mode = excluded.mode";
    sql(text)
        .bind(&provider)
        .bind(word(&faults.mode)?)
        .run(tx.conn())
        .await?;
    Ok(Json(faults))
}

fn known(provider: &str) -> Result<usize> {
    let at = PROVIDERS.iter().position(|name| *name == provider);
    at.ok_or_else(|| crate::limits::unknown("provider", provider))
}

fn is_up(mode: Mode) -> Result<()> {
    if mode == Mode::Down {
        return Err(Error::unavailable("provider_down", "the provider is down"));
    }
    Ok(())
}

async fn mode(conn: &mut Conn, provider: &str) -> Result<Mode> {
    let text = "SELECT mode FROM faults WHERE provider = $1";
    let row = sql(text).bind(provider).first::<(String,)>(conn).await?;
    row.map_or(Ok(Mode::Well), |(mode,)| of_word(mode))
}

type Row = (String, String, String, String, i64, String, String);

fn read((provider, key, chain, currency, minor, status, tx_hash): Row) -> Result<Leg> {
    Ok(Leg {
        provider,
        key,
        chain: of_word(chain)?,
        amount: Amount::of_minor(minor, Currency::of(&currency)?),
        status: of_word(status)?,
        tx_hash,
    })
}

async fn find_in(conn: &mut Conn, provider: &str, key: &str) -> Result<Leg> {
    let text = "SELECT provider, key, chain, currency, amount_minor, status, tx_hash FROM legs \
                WHERE provider = $1 AND key = $2";
    let row = sql(text)
        .bind(provider)
        .bind(key)
        .first::<Row>(conn)
        .await?;
    row.map_or_else(|| Err(crate::limits::unknown("leg", key)), read)
}

/// Writes a new leg. Says whether it is new.
async fn insert(conn: &mut Conn, leg: &Leg) -> Result<bool> {
    let text = "INSERT INTO legs (provider, key, chain, currency, amount_minor, status, tx_hash) \
                VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (provider, key) DO NOTHING";
    let inserted = sql(text)
        .bind(&leg.provider)
        .bind(&leg.key)
        .bind(leg.chain.name())
        .bind(leg.amount.currency().code())
        .bind(leg.amount.minor())
        .bind(word(&leg.status)?)
        .bind(&leg.tx_hash)
        .run(conn)
        .await?;
    Ok(inserted == 1)
}
