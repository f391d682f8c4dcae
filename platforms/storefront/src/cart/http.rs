//! Looking at a cart, and filling it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Conn, Cx, Error, Json, Path, Result};

use super::tables;
use crate::events::CartItemAdded;
use crate::{Money, limits, order, product};

/// A cart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cart {
    /// The cart; empty while nothing was ever put in.
    pub cart_id: String,
    /// What is in it.
    pub items: Vec<CartItem>,
    /// What it costs together.
    pub total: Money,
    /// ISO 4217; empty while the cart is.
    pub currency: String,
}

/// Something in a cart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CartItem {
    /// Its place in the cart.
    pub item_id: String,
    /// The product.
    pub product_id: String,
    /// Its variant, if one was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant_id: Option<String>,
    /// What it is called.
    pub name: String,
    /// The price of one.
    pub price: Money,
    /// ISO 4217.
    pub currency: String,
    /// How many.
    pub quantity: u32,
}

/// What to put into the cart.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddItem {
    /// The product.
    pub product_id: String,
    /// Its variant, if one was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant_id: Option<String>,
    /// How many.
    #[serde(deserialize_with = "limits::read_quantity")]
    #[schemars(range(min = 1, max = 1_000))]
    pub quantity: u32,
}

/// What to change of an item.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeItem {
    /// How many there shall be.
    #[serde(deserialize_with = "limits::read_quantity")]
    #[schemars(range(min = 1, max = 1_000))]
    pub quantity: u32,
}

/// An order that is made from the cart.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Checkout {
    /// The order.
    pub order_id: String,
}

pub(super) async fn find(cx: Cx) -> Result<Json<Cart>> {
    let user = cx.user()?;
    let mut reader = cx.read().await?;
    let cart_id = tables::find_cart(reader.conn(), &user).await?;
    Ok(Json(
        cart(reader.conn(), cart_id.unwrap_or_default()).await?,
    ))
}

pub(super) async fn add(cx: Cx, Json(new): Json<AddItem>) -> Result<Json<Cart>> {
    let user = cx.user()?;
    limits::quantity(new.quantity)?;
    let quote = quote(&cx, &new).await?;
    let item = CartItem {
        item_id: cx.env().id().to_string(),
        product_id: new.product_id,
        variant_id: new.variant_id,
        name: quote.name,
        price: quote.price,
        currency: quote.currency,
        quantity: new.quantity,
    };
    let mut tx = cx.tx().await?;
    let cart_id = tables::cart_of(tx.conn(), &user, cx.env().id().to_string()).await?;
    tables::add(tx.conn(), &cart_id, &item).await?;
    let cart = cart(tx.conn(), cart_id.clone()).await?;
    let CartItem {
        product_id,
        quantity,
        ..
    } = item;
    tx.publish(CartItemAdded {
        cart_id,
        product_id,
        quantity,
    })
    .await?;
    Ok(Json(cart))
}

pub(super) async fn change(
    cx: Cx,
    Path(item_id): Path<String>,
    Json(change): Json<ChangeItem>,
) -> Result<Json<Cart>> {
    let user = cx.user()?;
    limits::quantity(change.quantity)?;
    let mut tx = cx.tx().await?;
    let cart_id = tables::find_cart(tx.conn(), &user).await?;
    let cart_id = cart_id.ok_or_else(|| tables::unknown(&item_id))?;
    tables::set_quantity(tx.conn(), &cart_id, &item_id, change.quantity).await?;
    Ok(Json(cart(tx.conn(), cart_id).await?))
}

pub(super) async fn remove(cx: Cx, Path(item_id): Path<String>) -> Result<Json<Cart>> {
    let user = cx.user()?;
    let mut tx = cx.tx().await?;
    let cart_id = tables::find_cart(tx.conn(), &user).await?;
    let cart_id = cart_id.ok_or_else(|| tables::unknown(&item_id))?;
    tables::remove(tx.conn(), &cart_id, &item_id).await?;
    Ok(Json(cart(tx.conn(), cart_id).await?))
}

/// Says what is in the cart, and takes it out once the order exists.
pub(super) async fn check_out(
    cx: Cx,
    Json(checkout): Json<Checkout>,
) -> Result<Json<Vec<order::NewOrderItem>>> {
    let user = cx.user()?;
    let mut tx = cx.tx().await?;
    let items = match tables::find_cart(tx.conn(), &user).await? {
        Some(cart_id) => tables::items(tx.conn(), &cart_id).await?,
        None => Vec::new(),
    };
    if items.is_empty() {
        let text = "the cart is empty; put something in, or name the items of the order";
        return Err(Error::conflict("cart_empty", text));
    }
    tables::note_checkout(tx.conn(), &checkout.order_id, &items).await?;
    let items = items.into_iter().map(|item| order::NewOrderItem {
        product_id: item.product_id,
        variant_id: item.variant_id,
        quantity: item.quantity,
    });
    Ok(Json(items.collect()))
}

async fn quote(cx: &Cx, item: &AddItem) -> Result<product::Quote> {
    let item = product::QuoteItem {
        product_id: item.product_id.clone(),
        variant_id: item.variant_id.clone(),
    };
    product::quotes(cx, vec![item])
        .await?
        .into_iter()
        .next()
        .ok_or_else(|| Error::internal("product-service made no quote"))
}

async fn cart(conn: &mut Conn, cart_id: String) -> Result<Cart> {
    let items = tables::items(conn, &cart_id).await?;
    let total = Money::sum(items.iter().map(|item| item.price.times(item.quantity)))?;
    let currency = items
        .first()
        .map(|item| item.currency.clone())
        .unwrap_or_default();
    Ok(Cart {
        cart_id,
        items,
        total,
        currency,
    })
}
