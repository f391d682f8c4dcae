//! Keeping the index.

use tokio::sync::RwLock;
use trunkline::{Cx, Event, Result};

use super::index::Index;
use super::tables;
use crate::events::{ProductCreated, ProductUpdated, StockChanged};

/// The index, shared by queries and handlers. What a handler puts in before it commits is put in
/// again if it has to try again.
pub(super) type SharedIndex = RwLock<Index>;

/// Builds the index from what earlier runs have kept.
pub(super) async fn load_index(cx: Cx) -> Result<()> {
    let documents = {
        let mut reader = cx.read().await?;
        tables::all(reader.conn()).await?
    };
    let shared = cx.state::<SharedIndex>()?;
    let mut index = shared.write().await;
    documents
        .into_iter()
        .for_each(|document| index.put(document));
    Ok(())
}

pub(super) async fn product_created(cx: Cx, event: Event<ProductCreated>) -> Result<()> {
    let mut tx = cx.tx().await?;
    tables::insert(tx.conn(), &event.data).await?;
    drop(tx);
    reindex(&cx, &event.data.product_id).await
}

pub(super) async fn product_updated(cx: Cx, event: Event<ProductUpdated>) -> Result<()> {
    let mut tx = cx.tx().await?;
    tables::update(tx.conn(), &event.data).await?;
    drop(tx);
    reindex(&cx, &event.data.product_id).await
}

pub(super) async fn stock_changed(cx: Cx, event: Event<StockChanged>) -> Result<()> {
    let mut tx = cx.tx().await?;
    tables::set_in_stock(tx.conn(), &event.data).await?;
    drop(tx);
    reindex(&cx, &event.data.product_id).await
}

/// Puts into the index what the transaction has in its table.
async fn reindex(cx: &Cx, product_id: &str) -> Result<()> {
    let document = {
        let mut tx = cx.tx().await?;
        tables::find(tx.conn(), product_id).await?
    };
    if let Some(document) = document.filter(|document| !document.name.is_empty()) {
        cx.state::<SharedIndex>()?.write().await.put(document);
    }
    Ok(())
}
