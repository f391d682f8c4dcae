//! Carts and their items.

use trunkline::{Conn, Error, Result, sql};

use super::http::CartItem;
use crate::{Money, limits};

/// The user's cart, made where there is none.
pub(super) async fn cart_of(conn: &mut Conn, user_id: &str, new_id: String) -> Result<String> {
    sql("INSERT INTO carts (cart_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(new_id)
        .bind(user_id)
        .run(conn)
        .await?;
    find_cart(conn, user_id)
        .await?
        .ok_or_else(|| Error::internal("a cart was made and is not there"))
}

pub(super) async fn find_cart(conn: &mut Conn, user_id: &str) -> Result<Option<String>> {
    let text = "SELECT cart_id FROM carts WHERE user_id = $1";
    let cart = sql(text).bind(user_id).first::<(String,)>(conn).await?;
    Ok(cart.map(|(cart_id,)| cart_id))
}

type ItemRow = (String, String, String, String, i64, String, i64);

pub(super) async fn items(conn: &mut Conn, cart_id: &str) -> Result<Vec<CartItem>> {
    let text = "SELECT item_id, product_id, variant_id, name, price_minor, currency, quantity \
                FROM cart_items WHERE cart_id = $1 ORDER BY item_id";
    let rows = sql(text).bind(cart_id).all::<ItemRow>(conn).await?;
    let items = rows.into_iter().map(|row| {
        let (item_id, product_id, variant_id, name, price, currency, quantity) = row;
        let variant_id = Some(variant_id).filter(|id| !id.is_empty());
        let quantity = u32::try_from(quantity).unwrap_or_default();
        let price = Money::from_minor(price)?;
        Ok(CartItem {
            item_id,
            product_id,
            variant_id,
            name,
            price,
            currency,
            quantity,
        })
    });
    items.collect()
}

/// Puts an item in, or adds to the one that is there.
pub(super) async fn add(conn: &mut Conn, cart_id: &str, item: &CartItem) -> Result<()> {
    let text = "INSERT INTO cart_items (item_id, cart_id, product_id, variant_id, name, price_minor, \
                currency, quantity) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                ON CONFLICT (cart_id, product_id, variant_id) DO UPDATE SET \
                quantity = cart_items.quantity + excluded.quantity, name = excluded.name, \
                price_minor = excluded.price_minor RETURNING quantity";
    let (quantity,) = sql(text)
        .bind(&item.item_id)
        .bind(cart_id)
        .bind(&item.product_id)
        .bind(item.variant_id.clone().unwrap_or_default())
        .bind(&item.name)
        .bind(item.price)
        .bind(&item.currency)
        .bind(item.quantity)
        .one::<(i64,)>(conn)
        .await?;
    limits::quantity(u32::try_from(quantity).unwrap_or(u32::MAX))?;
    let (lines,) = sql("SELECT COUNT(*) FROM cart_items WHERE cart_id = $1")
        .bind(cart_id)
        .one::<(i64,)>(conn)
        .await?;
    limits::lines(usize::try_from(lines).unwrap_or(usize::MAX))
}

pub(super) async fn set_quantity(
    conn: &mut Conn,
    cart_id: &str,
    item_id: &str,
    quantity: u32,
) -> Result<()> {
    let changed = sql("UPDATE cart_items SET quantity = $1 WHERE cart_id = $2 AND item_id = $3")
        .bind(quantity)
        .bind(cart_id)
        .bind(item_id)
        .run(conn)
        .await?;
    if changed == 1 {
        Ok(())
    } else {
        Err(unknown(item_id))
    }
}

pub(super) async fn remove(conn: &mut Conn, cart_id: &str, item_id: &str) -> Result<()> {
    let removed = sql("DELETE FROM cart_items WHERE cart_id = $1 AND item_id = $2")
        .bind(cart_id)
        .bind(item_id)
        .run(conn)
        .await?;
    if removed == 1 {
        Ok(())
    } else {
        Err(unknown(item_id))
    }
}

/// Notes what an order takes from a cart.
pub(super) async fn note_checkout(
    conn: &mut Conn,
    order_id: &str,
    items: &[CartItem],
) -> Result<()> {
    for item in items {
        sql("INSERT INTO checkouts (order_id, item_id, quantity) VALUES ($1, $2, $3)")
            .bind(order_id)
            .bind(&item.item_id)
            .bind(item.quantity)
            .run(conn)
            .await?;
    }
    Ok(())
}

/// Takes from the cart what an order noted. What was added since stays.
pub(super) async fn take_checkout(conn: &mut Conn, order_id: &str) -> Result<()> {
    let text = "DELETE FROM checkouts WHERE order_id = $1 RETURNING item_id, quantity";
    let taken = sql(text).bind(order_id).all::<(String, i64)>(conn).await?;
    for (item_id, quantity) in taken {
        sql("DELETE FROM cart_items WHERE item_id = $1 AND quantity <= $2")
            .bind(&item_id)
            .bind(quantity)
            .run(conn)
            .await?;
        sql("UPDATE cart_items SET quantity = quantity - $2 WHERE item_id = $1")
            .bind(item_id)
            .bind(quantity)
            .run(conn)
            .await?;
    }
    Ok(())
}

pub(super) fn unknown(item_id: &str) -> Error {
    Error::not_found("item_unknown", "the cart has no such item").with("item_id", item_id)
}
