//! Products and their variants.

use trunkline::{Conn, Error, Result, sql};

use super::http::{Product, Variant};
use crate::{Money, catalogue, limits};

/// Words of a query that count.
const WORDS_MAX: usize = 6;

pub(super) async fn count(conn: &mut Conn) -> Result<i64> {
    Ok(sql("SELECT COUNT(*) FROM products")
        .one::<(i64,)>(conn)
        .await?
        .0)
}

pub(super) async fn insert(conn: &mut Conn, product: &catalogue::Product) -> Result<()> {
    let text = "INSERT INTO products (product_id, name, brand, category, description, price_minor, \
                currency, in_stock, stock_revision, sort_name, search_text) \
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10)";
    sql(text)
        .bind(&product.id)
        .bind(&product.name)
        .bind(&product.brand)
        .bind(&product.category)
        .bind(&product.description)
        .bind(product.price)
        .bind(&product.currency)
        .bind(product.stock > 0)
        .bind(product.name.to_lowercase())
        .bind(search_text(
            &product.name,
            &product.category,
            &product.description,
        ))
        .run(conn)
        .await?;
    for (place, variant) in (0_i64..).zip(&product.variants) {
        let text = "INSERT INTO variants (variant_id, product_id, place, name, price_minor) \
                    VALUES ($1, $2, $3, $4, $5)";
        sql(text)
            .bind(&variant.id)
            .bind(&product.id)
            .bind(place)
            .bind(&variant.name)
            .bind(variant.price)
            .run(conn)
            .await?;
    }
    Ok(())
}

type ProductRow = (String, String, String, String, String, i64, String, i64);

pub(super) async fn find(conn: &mut Conn, product_id: &str) -> Result<Product> {
    let text = "SELECT product_id, name, brand, category, description, price_minor, currency, \
                in_stock FROM products WHERE product_id = $1";
    let row = sql(text).bind(product_id).first::<ProductRow>(conn).await?;
    let mut product = product(row.ok_or_else(|| unknown(product_id))?)?;
    let text = "SELECT variant_id, name, price_minor FROM variants WHERE product_id = $1 \
                ORDER BY place";
    let rows = sql(text)
        .bind(product_id)
        .all::<(String, String, i64)>(conn)
        .await?;
    for (id, name, price) in rows {
        product.variants.push(Variant {
            id,
            name,
            price: Money::from_minor(price)?,
        });
    }
    Ok(product)
}

/// Products by name after a place, those with every word if there are any.
pub(super) async fn page(
    conn: &mut Conn,
    query: &str,
    (after_name, after_id): (String, String),
    limit: u32,
) -> Result<Vec<Product>> {
    let text = "SELECT product_id, name, brand, category, description, price_minor, currency, \
                in_stock FROM products \
                WHERE (sort_name > $1 OR (sort_name = $1 AND product_id > $2)) \
                AND search_text LIKE $3 AND search_text LIKE $4 AND search_text LIKE $5 \
                AND search_text LIKE $6 AND search_text LIKE $7 AND search_text LIKE $8 \
                ORDER BY sort_name, product_id LIMIT $9";
    let mut statement = sql(text).bind(after_name).bind(after_id);
    for pattern in patterns(query)? {
        statement = statement.bind(pattern);
    }
    let rows = statement.bind(limit).all::<ProductRow>(conn).await?;
    rows.into_iter().map(product).collect()
}

pub(super) async fn update(conn: &mut Conn, product: &Product) -> Result<()> {
    let text = "UPDATE products SET name = $1, description = $2, price_minor = $3, sort_name = $4, \
                search_text = $5 WHERE product_id = $6";
    sql(text)
        .bind(&product.name)
        .bind(&product.description)
        .bind(product.price)
        .bind(product.name.to_lowercase())
        .bind(search_text(
            &product.name,
            &product.category,
            &product.description,
        ))
        .bind(&product.id)
        .run(conn)
        .await?;
    Ok(())
}

/// Takes over whether a product is in stock, unless what is known is newer.
pub(super) async fn set_in_stock(
    conn: &mut Conn,
    product_id: &str,
    in_stock: bool,
    revision: u64,
) -> Result<()> {
    let text = "UPDATE products SET in_stock = $1, stock_revision = $2 \
                WHERE product_id = $3 AND stock_revision < $2";
    sql(text)
        .bind(in_stock)
        .bind(revision)
        .bind(product_id)
        .run(conn)
        .await?;
    Ok(())
}

fn product(row: ProductRow) -> Result<Product> {
    let (id, name, brand, category, description, price, currency, in_stock) = row;
    let price = Money::from_minor(price)?;
    let in_stock = in_stock != 0;
    let variants = Vec::new();
    Ok(Product {
        id,
        name,
        price,
        currency,
        in_stock,
        brand,
        category,
        description,
        variants,
    })
}

/// One pattern for each word, and patterns that match all for the rest.
fn patterns(query: &str) -> Result<[String; WORDS_MAX]> {
    let lower = query.to_lowercase();
    let words: Vec<&str> = lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    if words.len() > WORDS_MAX {
        let text = format!("q must have at most {WORDS_MAX} words");
        return Err(Error::invalid("query_too_long", text).with("words", words.len()));
    }
    let mut words = words.into_iter();
    // A word begins after a space: see `search_text`.
    Ok(std::array::from_fn(|_| {
        words
            .next()
            .map_or("%".to_owned(), |word| format!("% {word}%"))
    }))
}

/// Every word, each after a space.
fn search_text(name: &str, category: &str, description: &str) -> String {
    let text = format!(" {name} {category} {description}").to_lowercase();
    text.replace(|c: char| !c.is_alphanumeric(), " ")
}

pub(super) fn unknown(product_id: &str) -> Error {
    Error::not_found("product_unknown", "there is no such product")
        .with("product_id", limits::shown(product_id))
}
