//! Looking at products, and asking what they cost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Error, Json, Path, Query, Result};

use super::tables;
use crate::cursor::Cursors;
use crate::events::ProductUpdated;
use crate::{Money, limits};

/// A product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Product {
    /// Its id, a UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The price of one.
    pub price: Money,
    /// ISO 4217.
    pub currency: String,
    /// Whether any piece can be ordered.
    pub in_stock: bool,
    /// Who makes it.
    pub brand: String,
    /// The department it stands in.
    pub category: String,
    /// A sentence about it.
    pub description: String,
    /// The forms it comes in; empty in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
}

/// A form of a product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Variant {
    /// Its id, a UUID.
    pub id: String,
    /// What it is, such as `colour: moss`.
    pub name: String,
    /// The price of one.
    pub price: Money,
}

/// Which products.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Words that each product must have.
    #[serde(default)]
    q: String,
    /// Where the list goes on: `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many at most.
    limit: Option<u32>,
}

/// A page of products, by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Page {
    /// The products.
    pub items: Vec<Product>,
    /// Where the list goes on; null on the last page.
    pub next_cursor: Option<String>,
}

/// What a customer wants, to be told what it costs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuoteRequest {
    /// Each product or variant.
    pub items: Vec<QuoteItem>,
}

/// One thing wanted.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuoteItem {
    /// The product.
    pub product_id: String,
    /// Its variant, if one was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant_id: Option<String>,
}

/// What one of it costs now.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Quote {
    /// The name of the product, and of the variant if one was chosen.
    pub name: String,
    /// The price of one.
    pub price: Money,
    /// ISO 4217.
    pub currency: String,
}

/// Asks product-service for quotes, on behalf of a service that may; as many as items, in their order.
pub(crate) async fn quotes(cx: &Cx, items: Vec<QuoteItem>) -> Result<Vec<Quote>> {
    cx.service(super::NAME)?
        .post("/internal/quotes")
        .json(&QuoteRequest { items })
        .send()
        .await
}

/// What to change of a product.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    name: Option<String>,
    description: Option<String>,
    price: Option<Money>,
}

pub(super) async fn find(cx: Cx, Path(id): Path<String>) -> Result<Json<Product>> {
    let mut reader = cx.read().await?;
    Ok(Json(tables::find(reader.conn(), &id).await?))
}

pub(super) async fn list(cx: Cx, Query(query): Query<ListQuery>) -> Result<Json<Page>> {
    let limit = limits::page(query.limit)?;
    let cursors = cx.state::<Cursors>()?;
    let list = format!("products?q={}", query.q);
    let after = match &query.cursor {
        Some(cursor) => cursors.read(&list, cursor)?,
        None => Default::default(),
    };
    let mut reader = cx.read().await?;
    // One more than asked for tells whether there is a next page.
    let mut items = tables::page(reader.conn(), &query.q, after, limit + 1).await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next_cursor = match items.last() {
        Some(last) if more => Some(cursors.write(&list, &(last.name.to_lowercase(), &last.id))?),
        _ => None,
    };
    Ok(Json(Page { items, next_cursor }))
}

pub(super) async fn quote(cx: Cx, Json(request): Json<QuoteRequest>) -> Result<Json<Vec<Quote>>> {
    limits::lines(request.items.len())?;
    let mut reader = cx.read().await?;
    let mut quotes = Vec::with_capacity(request.items.len());
    for item in request.items {
        let product = tables::find(reader.conn(), &item.product_id).await?;
        let (name, price) = match item.variant_id {
            None => (product.name, product.price),
            Some(id) => {
                let variant = product
                    .variants
                    .into_iter()
                    .find(|variant| variant.id == id);
                let variant = variant.ok_or_else(|| {
                    Error::not_found("variant_unknown", "the product has no such variant")
                        .with("product_id", &item.product_id)
                        .with("variant_id", limits::shown(&id))
                })?;
                (format!("{}, {}", product.name, variant.name), variant.price)
            }
        };
        quotes.push(Quote {
            name,
            price,
            currency: product.currency,
        });
    }
    Ok(Json(quotes))
}

pub(super) async fn update(
    cx: Cx,
    Path(id): Path<String>,
    Json(change): Json<Change>,
) -> Result<Json<Product>> {
    let mut tx = cx.tx().await?;
    let mut product = tables::find(tx.conn(), &id).await?;
    if let Some(name) = change.name {
        product.name = limits::text("name", &name, 200)?.to_owned();
    }
    if let Some(description) = change.description {
        product.description = limits::text("description", &description, 2_000)?.to_owned();
    }
    product.price = change.price.unwrap_or(product.price);
    tables::update(tx.conn(), &product).await?;
    tx.publish(ProductUpdated {
        product_id: product.id.clone(),
        name: product.name.clone(),
        description: product.description.clone(),
        price: product.price,
    })
    .await?;
    Ok(Json(product))
}
