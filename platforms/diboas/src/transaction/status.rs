//! How a transaction stands on all its chains, some of which may not answer.

use futures::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Json, Path, Result};

use super::http::{Status, visible};
use super::tables;
use crate::chains::{Chain, LegStatus};
use crate::provider::{self, LegKind, LegState, Receipt};

/// A transaction, as all its chains say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Consolidated {
    /// The transaction.
    pub transaction_id: String,
    /// How it stands with the platform.
    pub status: Status,
    /// Whether all chains have answered.
    pub complete: bool,
    /// Each leg that was carried out.
    pub legs: Vec<LegStanding>,
}

/// How a leg stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LegStanding {
    /// Which.
    pub leg: LegKind,
    /// On which chain.
    pub chain: Chain,
    /// Who carried it out.
    pub provider: String,
    /// Its name on the chain.
    pub tx_hash: String,
    /// What the chain says; none if it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<LegStatus>,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Asks the providers of all legs side by side; who fails is shown as such.
pub(super) async fn consolidated(
    cx: Cx,
    Path(transaction_id): Path<String>,
) -> Result<Json<Consolidated>> {
    let transaction = visible(&cx, &transaction_id).await?;
    let legs = {
        let mut reader = cx.read().await?;
        tables::legs(reader.conn(), &transaction_id).await?
    };
    let legs = join_all(legs.into_iter().map(|leg| ask(&cx, &transaction_id, leg))).await;
    Ok(Json(Consolidated {
        transaction_id,
        status: transaction.status,
        complete: legs.iter().all(|leg| leg.error.is_none()),
        legs,
    }))
}

async fn ask(cx: &Cx, transaction_id: &str, leg: Receipt) -> LegStanding {
    let path = format!(
        "/api/v1/legs/{}/{transaction_id}/{}",
        leg.provider,
        leg.leg.name()
    );
    let asked = async {
        cx.service(provider::NAME)?
            .get(path)
            .send::<LegState>()
            .await
    };
    let (status, error) = match asked.await {
        Ok(state) => (Some(state.status), None),
        Err(error) => (None, Some(error.code().to_owned())),
    };
    LegStanding {
        leg: leg.leg,
        chain: leg.chain,
        provider: leg.provider,
        tx_hash: leg.tx_hash,
        status,
        error,
    }
}
