//! The catalogue at first, and what inventory says about it later.

use trunkline::{Cx, Event, Result};

use super::tables;
use crate::catalogue;
use crate::events::{ProductCreated, StockChanged};

/// Loads the catalogue on the first start.
pub(super) async fn load_catalogue(cx: Cx) -> Result<()> {
    let mut tx = cx.tx().await?;
    if tables::count(tx.conn()).await? > 0 {
        return Ok(());
    }
    for product in catalogue::products()? {
        tables::insert(tx.conn(), &product).await?;
        tx.publish(ProductCreated {
            product_id: product.id,
            name: product.name,
            brand: product.brand,
            category: product.category,
            description: product.description,
            price: product.price,
            currency: product.currency,
            in_stock: product.stock > 0,
        })
        .await?;
    }
    Ok(())
}

/// A product came to be in stock, or to be out of it.
pub(super) async fn stock_changed(cx: Cx, event: Event<StockChanged>) -> Result<()> {
    let StockChanged {
        product_id,
        in_stock,
        revision,
    } = event.data;
    let mut tx = cx.tx().await?;
    tables::set_in_stock(tx.conn(), &product_id, in_stock, revision).await
}
