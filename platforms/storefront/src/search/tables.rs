//! The documents that the index is made of.

use trunkline::{Conn, Result, sql};

use super::index::Document;
use crate::Money;
use crate::events::{ProductCreated, ProductUpdated, StockChanged};

type DocumentRow = (String, String, String, String, String, i64, String, i64);

pub(super) async fn all(conn: &mut Conn) -> Result<Vec<Document>> {
    let text = "SELECT product_id, name, brand, category, description, price_minor, currency, \
                in_stock FROM documents ORDER BY product_id";
    let rows = sql(text).all::<DocumentRow>(conn).await?;
    rows.into_iter().map(document).collect()
}

pub(super) async fn find(conn: &mut Conn, product_id: &str) -> Result<Option<Document>> {
    let text = "SELECT product_id, name, brand, category, description, price_minor, currency, \
                in_stock FROM documents WHERE product_id = $1";
    let row = sql(text)
        .bind(product_id)
        .first::<DocumentRow>(conn)
        .await?;
    row.map(document).transpose()
}

pub(super) async fn insert(conn: &mut Conn, product: &ProductCreated) -> Result<()> {
    let text = "INSERT INTO documents (product_id, name, brand, category, description, price_minor, \
                currency, in_stock, stock_revision) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0) \
                ON CONFLICT (product_id) DO UPDATE SET name = excluded.name, \
                brand = excluded.brand, category = excluded.category, \
                description = excluded.description, price_minor = excluded.price_minor, \
                currency = excluded.currency, in_stock = CASE WHEN documents.stock_revision = 0 \
                THEN excluded.in_stock ELSE documents.in_stock END";
    sql(text)
        .bind(&product.product_id)
        .bind(&product.name)
        .bind(&product.brand)
        .bind(&product.category)
        .bind(&product.description)
        .bind(product.price)
        .bind(&product.currency)
        .bind(product.in_stock)
        .run(conn)
        .await?;
    Ok(())
}

pub(super) async fn update(conn: &mut Conn, product: &ProductUpdated) -> Result<()> {
    let text = "UPDATE documents SET name = $1, description = $2, price_minor = $3 \
                WHERE product_id = $4";
    sql(text)
        .bind(&product.name)
        .bind(&product.description)
        .bind(product.price)
        .bind(&product.product_id)
        .run(conn)
        .await?;
    Ok(())
}

/// Takes over whether a product is in stock, unless what is known is newer. The product itself may
/// come later: it is told on another topic.
pub(super) async fn set_in_stock(conn: &mut Conn, stock: &StockChanged) -> Result<()> {
    let text = "INSERT INTO documents (product_id, name, brand, category, description, price_minor, \
                currency, in_stock, stock_revision) VALUES ($1, '', '', '', '', 0, '', $2, $3) \
                ON CONFLICT (product_id) DO UPDATE SET in_stock = excluded.in_stock, \
                stock_revision = excluded.stock_revision \
                WHERE documents.stock_revision < excluded.stock_revision";
    sql(text)
        .bind(&stock.product_id)
        .bind(stock.in_stock)
        .bind(stock.revision)
        .run(conn)
        .await?;
    Ok(())
}

fn document(row: DocumentRow) -> Result<Document> {
    let (product_id, name, brand, category, description, price, currency, in_stock) = row;
    let price = Money::from_minor(price)?;
    let in_stock = in_stock != 0;
    Ok(Document {
        product_id,
        name,
        brand,
        category,
        description,
        price,
        currency,
        in_stock,
    })
}
