//! Transfers as they are looked at.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Json, Result, sql};

use super::Config;
use crate::chains::Chain;
use crate::events::TransactionFlagged;
use crate::{Amount, limits};

/// A transfer to be looked at.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Screening {
    /// The transaction: it is looked at once.
    pub transaction_id: String,
    /// Whose it is.
    pub user_id: String,
    /// Who gets it.
    pub recipient: String,
    /// How much.
    pub amount: Amount,
    /// Where it goes.
    pub to: Chain,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Screened {
    /// Whether it may go.
    pub verdict: Verdict,
    /// Why not, in snake case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a transfer may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It may.
    Cleared,
    /// It may not.
    Stopped,
}

pub(super) async fn screen(cx: Cx, Json(asked): Json<Screening>) -> Result<Json<Screened>> {
    limits::id("transactionId", &asked.transaction_id)?;
    let mut tx = cx.tx().await?;
    let text = "SELECT reason FROM screenings WHERE transaction_id = $1";
    let there = sql(text)
        .bind(&asked.transaction_id)
        .first::<(Option<String>,)>(tx.conn())
        .await?;
    if let Some((reason,)) = there {
        return Ok(Json(screened(reason)));
    }
    let reason = judge(&asked, &cx.config::<Config>()?);
    let text = "INSERT INTO screenings (transaction_id, reason) VALUES ($1, $2) \
                ON CONFLICT (transaction_id) DO NOTHING";
    sql(text)
        .bind(&asked.transaction_id)
        .bind(reason)
        .run(tx.conn())
        .await?;
    drop(tx);
    let reason = reason.map(str::to_owned);
    if let Some(reason) = reason.clone() {
        cx.publish(TransactionFlagged {
            transaction_id: asked.transaction_id,
            user_id: asked.user_id,
            recipient: asked.recipient,
            amount: asked.amount,
            to: asked.to,
            reason,
        })
        .await?;
    }
    Ok(Json(screened(reason)))
}

fn judge(asked: &Screening, config: &Config) -> Option<&'static str> {
    let unit = 10_i64.pow(asked.amount.currency().decimals());
    if config.blocked.contains(&asked.recipient) {
        Some("recipient_blocked")
    } else if asked.amount.minor() / unit >= config.units_max {
        Some("amount_too_large")
    } else {
        None
    }
}

fn screened(reason: Option<String>) -> Screened {
    let verdict = match reason {
        None => Verdict::Cleared,
        Some(_) => Verdict::Stopped,
    };
    Screened { verdict, reason }
}
