//! A sale, from the chosen slot to the piece that fell or the money back.

use trunkline::{Cx, Error, Event, Result, Retry};

use super::http::{NewSale, Sale, SaleStatus};
use super::{Config, tables};
use crate::events::{DeviceStatus, DeviceStatusUpdated, OrderCreated, SettleSale};
use crate::order::{self, NewItem, NewOrder, Status};
use crate::{limits, shop};

/// Sells one piece from a slot.
///
/// # Errors
/// `Conflict` with code `machine_offline` before the machine has said that it is there, or `stock_insufficient`;
/// `Unavailable` when it is not known whether it is paid: the same sale again goes on from there.
pub(super) async fn sell(cx: &Cx, machine_id: &str, new: NewSale) -> Result<Sale> {
    limits::id("saleId", &new.sale_id)?;
    limits::id("slot", &new.slot)?;
    {
        let mut reader = cx.read().await?;
        if let Some(there) = tables::find(reader.conn(), machine_id, &new.sale_id).await? {
            return Ok(there);
        }
        if tables::status(reader.conn(), machine_id).await? != Some(DeviceStatus::Online) {
            let text = "the machine has not said that it is online";
            return Err(Error::conflict("machine_offline", text));
        }
    }
    let slot = shop::find_slot(cx, machine_id, &new.slot).await?;
    let wanted = NewOrder {
        shop_id: slot.shop_id,
        items: vec![NewItem {
            product_id: slot.product_id,
            quantity: 1,
        }],
        card_token: new.card_token,
    };
    let order = order::place(cx, &format!("{}:order", new.sale_id), &wanted).await?;
    let sale = Sale {
        sale_id: new.sale_id,
        order_id: order.order_id,
        status: match order.status {
            Status::Confirmed => SaleStatus::Vending,
            Status::Cancelled => SaleStatus::Refused,
        },
        reason: order.reason,
    };
    let mut tx = cx.tx().await?;
    tables::save(tx.conn(), machine_id, &sale).await
}

/// Takes over how vending ended. A piece that did not fall is paid back; a sale that was paid back stays so.
pub(super) async fn finish(cx: &Cx, machine_id: &str, sale_id: &str, vended: bool) -> Result<Sale> {
    let sale = {
        let mut reader = cx.read().await?;
        tables::find(reader.conn(), machine_id, sale_id).await?
    };
    let sale = sale.ok_or_else(|| limits::unknown("sale", sale_id))?;
    if sale.status != SaleStatus::Vending {
        return Ok(sale);
    }
    if !vended {
        order::refund(cx, &sale.order_id).await?;
    }
    let status = if vended {
        SaleStatus::Vended
    } else {
        SaleStatus::Refunded
    };
    let mut tx = cx.tx().await?;
    tables::set_status(tx.conn(), &sale.order_id, status).await?;
    Ok(Sale { status, ..sale })
}

/// A machine came or went.
pub(super) async fn device_status_updated(cx: Cx, event: Event<DeviceStatusUpdated>) -> Result<()> {
    let mut tx = cx.tx().await?;
    tables::save_machine(tx.conn(), &event.data).await
}

/// A machine's order was placed: from now on it has a time to vend, also if the request for it died.
pub(super) async fn order_created(cx: Cx, event: Event<OrderCreated>) -> Result<()> {
    let OrderCreated {
        order_id, user_id, ..
    } = event.data;
    let mut tx = cx.tx().await?;
    if tables::status(tx.conn(), &user_id).await?.is_none() {
        return Ok(());
    }
    tables::expect(tx.conn(), &user_id, &order_id).await?;
    let pause = cx.config::<Config>()?.vend_within();
    tx.publish_in(
        pause,
        SettleSale {
            order_id,
            attempt: 1,
        },
    )
    .await
}

/// A machine's time to vend is up.
pub(super) async fn settle(cx: Cx, event: Event<SettleSale>) -> Result<()> {
    let SettleSale { order_id, attempt } = event.data;
    let status = {
        let mut reader = cx.read().await?;
        tables::status_of(reader.conn(), &order_id).await?
    };
    if status != Some(SaleStatus::Vending) {
        return Ok(());
    }
    let config = cx.config::<Config>()?;
    match order::refund(&cx, &order_id).await {
        Ok(_) => {
            let mut tx = cx.tx().await?;
            tables::set_status(tx.conn(), &order_id, SaleStatus::Refunded).await
        }
        Err(error) if error.retry() == Retry::Permanent || attempt >= config.attempts_max => {
            Err(error)
        }
        Err(error) => {
            tracing::warn!(order_id, attempt, %error, "a refund failed; it is tried again");
            let attempt = attempt.saturating_add(1);
            cx.publish_in(config.ask_again(), SettleSale { order_id, attempt })
                .await
        }
    }
}
