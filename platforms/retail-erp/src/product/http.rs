//! Looking at products.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Json, Money, Path, Query, Result};

use super::{NAME, tables};
use crate::{STAFF, limits};

/// A product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Product {
    /// Its id.
    pub product_id: String,
    /// Its name.
    pub name: String,
    /// The price of one, before campaigns.
    pub price: Money,
    /// Whether any shop has it.
    pub available: bool,
    /// The shops that have it.
    pub shops: Vec<Place>,
}

/// A shop that has a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The shop.
    pub shop_id: String,
    /// Pieces that lie there.
    pub stock: u32,
}

/// A product as it is to be.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewProduct {
    /// Its name.
    pub name: String,
    /// The price of one.
    pub price: Money,
}

/// Which products.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Their ids, with commas between them; all if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ids: Option<String>,
}

pub(super) async fn list(cx: Cx, Query(which): Query<Which>) -> Result<Json<Vec<Product>>> {
    let mut reader = cx.read().await?;
    let Some(ids) = which.ids else {
        return Ok(Json(tables::all(reader.conn()).await?));
    };
    let ids: Vec<&str> = ids.split(',').collect();
    limits::lines(ids.len())?;
    let mut products = Vec::with_capacity(ids.len());
    for id in ids {
        products.push(tables::find(reader.conn(), id).await?);
    }
    Ok(Json(products))
}

pub(super) async fn find(cx: Cx, Path(id): Path<String>) -> Result<Json<Product>> {
    let mut reader = cx.read().await?;
    Ok(Json(tables::find(reader.conn(), &id).await?))
}

pub(super) async fn save(
    cx: Cx,
    Path(id): Path<String>,
    Json(new): Json<NewProduct>,
) -> Result<Json<Product>> {
    cx.require_role(STAFF)?;
    limits::id("productId", &id)?;
    limits::name(&new.name)?;
    let mut tx = cx.tx().await?;
    tables::save(tx.conn(), &id, &new).await?;
    Ok(Json(tables::find(tx.conn(), &id).await?))
}

/// Asks product-service for products, on behalf of a service that may; as many as ids, in their order.
///
/// # Errors
/// `NotFound` with code `product_unknown`.
pub(crate) async fn find_all(cx: &Cx, ids: &[&str]) -> Result<Vec<Product>> {
    let which = Which {
        ids: Some(ids.join(",")),
    };
    cx.service(NAME)?
        .get("/api/products")
        .query(&which)
        .send()
        .await
}
