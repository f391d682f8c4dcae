//! Products, and where they are to be had.

use std::collections::HashMap;

use trunkline::{Conn, Cx, Money, Result, sql};

use super::http::{NewProduct, Place, Product};
use crate::events::StockUpdated;
use crate::{demo, limits};

type Row = (String, String, i64);

fn read((product_id, name, price): Row, shops: Vec<Place>) -> Result<Product> {
    Ok(Product {
        product_id,
        name,
        price: Money::from_minor(price)?,
        available: !shops.is_empty(),
        shops,
    })
}

fn place(shop_id: String, stock: i64) -> Place {
    let stock = u32::try_from(stock).unwrap_or_default();
    Place { shop_id, stock }
}

pub(super) async fn find(conn: &mut Conn, product_id: &str) -> Result<Product> {
    let text = "SELECT product_id, name, price_minor FROM products WHERE product_id = $1";
    let row = sql(text).bind(product_id).first::<Row>(conn).await?;
    let row = row.ok_or_else(|| limits::unknown("product", product_id))?;
    let text = "SELECT shop_id, stock FROM places WHERE product_id = $1 AND stock > 0 \
                ORDER BY shop_id";
    let places = sql(text)
        .bind(product_id)
        .all::<(String, i64)>(conn)
        .await?;
    read(
        row,
        places
            .into_iter()
            .map(|(shop_id, stock)| place(shop_id, stock))
            .collect(),
    )
}

pub(super) async fn all(conn: &mut Conn) -> Result<Vec<Product>> {
    let text = "SELECT product_id, shop_id, stock FROM places WHERE stock > 0 ORDER BY shop_id";
    let mut places = HashMap::<String, Vec<Place>>::new();
    for (product_id, shop_id, stock) in sql(text).all::<(String, String, i64)>(conn).await? {
        places
            .entry(product_id)
            .or_default()
            .push(place(shop_id, stock));
    }
    let text = "SELECT product_id, name, price_minor FROM products ORDER BY name LIMIT $1";
    let rows = sql(text).bind(limits::PAGE_MAX).all::<Row>(conn).await?;
    let products = rows.into_iter().map(|row| {
        let shops = places.remove(&row.0).unwrap_or_default();
        read(row, shops)
    });
    products.collect()
}

pub(super) async fn save(conn: &mut Conn, product_id: &str, new: &NewProduct) -> Result<()> {
    let text = "INSERT INTO products (product_id, name, price_minor) VALUES ($1, $2, $3) \
                ON CONFLICT (product_id) DO UPDATE SET name = excluded.name, \
                price_minor = excluded.price_minor";
    sql(text)
        .bind(product_id)
        .bind(&new.name)
        .bind(new.price)
        .run(conn)
        .await?;
    Ok(())
}

/// Events of one product come in their order, so the last one counts.
pub(super) async fn set_stock(conn: &mut Conn, told: &StockUpdated) -> Result<()> {
    let text = "INSERT INTO places (product_id, shop_id, stock) VALUES ($1, $2, $3) \
                ON CONFLICT (product_id, shop_id) DO UPDATE SET stock = excluded.stock";
    sql(text)
        .bind(&told.product_id)
        .bind(&told.shop_id)
        .bind(told.new_stock)
        .run(conn)
        .await?;
    Ok(())
}

/// Has something to sell on the first start.
pub(super) async fn load_demo(cx: Cx) -> Result<()> {
    let mut tx = cx.tx().await?;
    let conn = tx.conn();
    let (known,) = sql("SELECT COUNT(*) FROM products")
        .one::<(i64,)>(conn)
        .await?;
    if known > 0 {
        return Ok(());
    }
    for demo::Product {
        product_id,
        name,
        price_minor,
    } in demo::PRODUCTS
    {
        let new = NewProduct {
            name: (*name).to_owned(),
            price: Money::from_minor(*price_minor)?,
        };
        save(conn, product_id, &new).await?;
    }
    Ok(())
}
