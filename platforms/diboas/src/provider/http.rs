//! Legs as they are asked for.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Error, Json, Path, Result, Retry};

use super::{Registry, Remote};
use crate::chains::{Chain, Leg, LegStatus, NewLeg, PROVIDERS};
use crate::{Amount, limits};

/// Which part of a transfer a leg is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LegKind {
    /// The money leaves its chain.
    Source,
    /// It crosses over.
    Bridge,
    /// It arrives.
    Target,
}

impl LegKind {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::Source, Self::Bridge, Self::Target];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Bridge => "bridge",
            Self::Target => "target",
        }
    }
}

/// A leg for which somebody is looked for.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wanted {
    /// The transaction.
    pub transaction_id: String,
    /// Which of its legs.
    pub leg: LegKind,
    /// On which chain.
    pub chain: Chain,
    /// How much.
    pub amount: Amount,
    /// Who has been tried for it already.
    #[serde(default)]
    pub except: Vec<String>,
}

/// Who carries out a leg, and for how much.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Choice {
    /// The provider.
    pub provider: String,
    /// In hundredths of a per cent.
    pub fee_bps: u32,
}

/// A leg that is to be carried out by a provider.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Execute {
    /// Who was chosen.
    pub provider: String,
    /// The transaction.
    pub transaction_id: String,
    /// Which of its legs.
    pub leg: LegKind,
    /// On which chain.
    pub chain: Chain,
    /// How much.
    pub amount: Amount,
}

/// A leg that is to be taken back.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Undo {
    /// Who was asked.
    pub provider: String,
    /// The transaction.
    pub transaction_id: String,
    /// Which of its legs.
    pub leg: LegKind,
}

/// A leg that was carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// By whom.
    pub provider: String,
    /// Which of the transaction's legs.
    pub leg: LegKind,
    /// On which chain.
    pub chain: Chain,
    /// Its name there.
    pub tx_hash: String,
}

/// How a leg stands at its provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LegState {
    /// How it stands.
    pub status: LegStatus,
}

/// How a provider is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Which.
    pub provider: String,
    /// Whether it is asked.
    pub healthy: bool,
}

/// Who is well, was not tried, and costs least.
pub(super) async fn choose(cx: Cx, Json(wanted): Json<Wanted>) -> Result<Json<Choice>> {
    let leg = new_leg(
        &wanted.transaction_id,
        wanted.leg,
        (wanted.chain, wanted.amount),
    )?;
    let registry = cx.state::<Registry>()?;
    let quotes = registry.quotes(|remote: Arc<Remote>| {
        let (cx, leg) = (cx.clone(), leg.clone());
        async move { remote.quote(&cx, &leg).await }
    });
    let offers = quotes.await.into_iter();
    let open = offers.filter(|quote| !wanted.except.iter().any(|name| *name == *quote.name));
    let was_tried = |name: &str| wanted.except.iter().any(|tried| tried == name);
    if PROVIDERS.iter().all(|name| was_tried(name)) {
        let text = "all providers were tried, and none takes the leg";
        return Err(Error::conflict("providers_exhausted", text));
    }
    let best = open
        .min_by_key(|quote| quote.terms.fee_bps)
        .ok_or_else(|| {
            let text = "no provider that was not tried yet gives a quote now";
            Error::unavailable("providers_unavailable", text)
                .with("tried", wanted.except.join(", "))
        })?;
    Ok(Json(Choice {
        provider: best.name.to_string(),
        fee_bps: best.terms.fee_bps,
    }))
}

pub(super) async fn execute(cx: Cx, Json(new): Json<Execute>) -> Result<Json<Receipt>> {
    let leg = new_leg(
        &new.transaction_id,
        new.leg,
        (new.chain, new.amount.positive()?),
    )?;
    let remote = remote(&new.provider)?;
    let done = remote.execute(&cx, &leg).await;
    if let Err(error) = &done
        && error.retry() != Retry::Permanent
    {
        cx.state::<Registry>()?.report(remote.name(), false);
    }
    let Leg { tx_hash, chain, .. } = done?;
    Ok(Json(Receipt {
        provider: new.provider,
        leg: new.leg,
        chain,
        tx_hash,
    }))
}

pub(super) async fn reverse(cx: Cx, Json(undo): Json<Undo>) -> Result<Json<LegState>> {
    let key = key(&undo.transaction_id, undo.leg)?;
    let leg = remote(&undo.provider)?.reverse(&cx, &key).await?;
    Ok(Json(LegState { status: leg.status }))
}

pub(super) async fn find(
    cx: Cx,
    Path((provider, transaction_id, leg)): Path<(String, String, LegKind)>,
) -> Result<Json<LegState>> {
    let key = key(&transaction_id, leg)?;
    let leg = remote(&provider)?.find(&cx, &key).await?;
    Ok(Json(LegState { status: leg.status }))
}

pub(super) async fn health(cx: Cx) -> Result<Json<Vec<Health>>> {
    let registry = cx.state::<Registry>()?;
    let health = registry.health().into_iter().map(|one| Health {
        provider: one.name.to_string(),
        healthy: one.is_well,
    });
    Ok(Json(health.collect()))
}

fn remote(name: &str) -> Result<Remote> {
    let known = crate::chains::PROVIDERS
        .into_iter()
        .find(|known| *known == name);
    known
        .map(Remote::named)
        .ok_or_else(|| limits::unknown("provider", name))
}

fn new_leg(transaction_id: &str, leg: LegKind, (chain, amount): (Chain, Amount)) -> Result<NewLeg> {
    let key = key(transaction_id, leg)?;
    Ok(NewLeg { key, chain, amount })
}

/// What a leg is called at its provider.
fn key(transaction_id: &str, leg: LegKind) -> Result<String> {
    limits::id("transactionId", transaction_id)?;
    Ok(format!("{transaction_id}-{}", leg.name()))
}
