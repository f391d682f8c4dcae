//! How others ask inventory-service.

use trunkline::{Cx, ErrorKind, Result, grpc};

use super::{NAME, StockLevel};
use crate::proto::inventory::inventory_client::InventoryClient;
use crate::proto::inventory::{ReleaseStockRequest, ReserveStockRequest};
use crate::proto::keyed;

/// Holds stock for an order.
///
/// # Errors
/// `Conflict` with code `stock_insufficient`; `NotFound` with code `stock_unknown`.
pub(crate) async fn reserve(cx: &Cx, wanted: ReserveStockRequest) -> Result<()> {
    let mut inventory = InventoryClient::new(cx.service(NAME)?.grpc());
    let request = keyed(&format!("{}:reserve", wanted.order_id), wanted)?;
    inventory
        .reserve_stock(request)
        .await
        .map(drop)
        .map_err(grpc::error)
}

/// Gives free what is held for an order.
pub(crate) async fn release(cx: &Cx, order_id: &str) -> Result<()> {
    let mut inventory = InventoryClient::new(cx.service(NAME)?.grpc());
    let order_id = order_id.to_owned();
    let request = keyed(
        &format!("{order_id}:release"),
        ReleaseStockRequest { order_id },
    )?;
    inventory
        .release_stock(request)
        .await
        .map(drop)
        .map_err(grpc::error)
}

/// What there is of a product in a shop, if it has any.
pub(crate) async fn level(cx: &Cx, shop_id: &str, product_id: &str) -> Result<Option<StockLevel>> {
    let inventory = cx.service(NAME)?;
    match inventory
        .get(format!("/api/inventory/{shop_id}/{product_id}"))
        .send()
        .await
    {
        Ok(level) => Ok(Some(level)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
