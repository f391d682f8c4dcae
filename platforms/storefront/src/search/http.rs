//! Searching.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Json, Query, Result};

use super::sync::SharedIndex;
use crate::{Money, limits};

/// What to search for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchQuery {
    /// Words, or beginnings of words.
    q: String,
    /// How many at most.
    limit: Option<u32>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hits {
    /// The products, best first.
    pub items: Vec<Hit>,
}

/// A product that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hit {
    /// The product.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The department it stands in.
    pub category: String,
    /// The price of one.
    pub price: Money,
    /// ISO 4217.
    pub currency: String,
    /// Whether any piece can be ordered.
    pub in_stock: bool,
    /// How well it fits; comparable within one answer.
    pub score: f64,
}

pub(super) async fn search(cx: Cx, Query(query): Query<SearchQuery>) -> Result<Json<Hits>> {
    let limit = limits::page(query.limit)?;
    let shared = cx.state::<SharedIndex>()?;
    let index = shared.read().await;
    let hits = index.search(limits::text("q", &query.q, 200)?, limit as usize);
    let items = hits.into_iter().map(|(score, found)| Hit {
        id: found.product_id.clone(),
        name: found.name.clone(),
        category: found.category.clone(),
        price: found.price,
        currency: found.currency.clone(),
        in_stock: found.in_stock,
        score: (score * 1_000.0).round() / 1_000.0,
    });
    Ok(Json(Hits {
        items: items.collect(),
    }))
}
