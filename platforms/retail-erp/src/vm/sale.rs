//! A sale, from the chosen slot to the piece that fell or the money back.

use trunkline::{Cx, Error, Event, Result, Retry};

use super::http::{NewSale, Sale, SaleStatus};
use super::{Config, tables};
use crate::events::{
    DeviceStatus, DeviceStatusUpdated, OrderCreated, SettleSale, VendEnd, VendEnded, VendRequested,
};
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
    let sale = order(cx, machine_id, new).await?;
    let mut tx = cx.tx().await?;
    tables::save(tx.conn(), machine_id, &sale).await
}

/// The same for a machine that is told by a command to vend, once.
pub(super) async fn purchase(cx: &Cx, machine_id: &str, new: NewSale) -> Result<Sale> {
    limits::id("saleId", &new.sale_id)?;
    limits::id("slot", &new.slot)?;
    {
        let mut reader = cx.read().await?;
        if let Some(there) = tables::find(reader.conn(), machine_id, &new.sale_id).await? {
            return Ok(there);
        }
    }
    let slot = new.slot.clone();
    let sale = order(cx, machine_id, new).await?;
    let mut tx = cx.tx().await?;
    let sale = tables::save(tx.conn(), machine_id, &sale).await?;
    if sale.status != SaleStatus::Vending {
        return Ok(sale);
    }
    if !tables::command(tx.conn(), &sale.order_id).await? {
        return Ok(sale);
    }
    let config = cx.config::<Config>()?;
    let order_id = sale.order_id.clone();
    // Whoever dies on the way: the machine's time ends.
    let attempt = 1;
    tx.publish_in(config.vend_within(), SettleSale { order_id, attempt })
        .await?;
    tx.publish(VendRequested {
        machine_id: machine_id.to_owned(),
        sale_id: sale.sale_id.clone(),
        slot,
        expires_at: cx.env().after(config.vend_begins_within()),
    })
    .await?;
    Ok(sale)
}

/// Places the order that a sale is.
async fn order(cx: &Cx, machine_id: &str, new: NewSale) -> Result<Sale> {
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
    Ok(Sale {
        sale_id: new.sale_id,
        order_id: order.order_id,
        status: match order.status {
            Status::Confirmed => SaleStatus::Vending,
            Status::Cancelled => SaleStatus::Refused,
        },
        reason: order.reason,
    })
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
    if vended {
        tables::set_vended(tx.conn(), &sale.order_id).await?;
    } else {
        tables::set_refunded(tx.conn(), &sale.order_id).await?;
    }
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
            let late = tables::set_refunded(tx.conn(), &order_id).await?;
            note_late(&cx, &order_id, late)
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

/// Vending by a command has ended, by the machine's word or its silence.
pub(super) async fn vend_ended(cx: Cx, event: Event<VendEnded>) -> Result<()> {
    let VendEnded {
        machine_id,
        sale_id,
        end,
    } = event.data;
    let mut tx = cx.tx().await?;
    let Some(sale) = tables::find(tx.conn(), &machine_id, &sale_id).await? else {
        // It gave up before we knew of the sale; should that still come about, it refuses to vend.
        return Ok(());
    };
    let order_id = sale.order_id;
    let settle = SettleSale {
        order_id: order_id.clone(),
        attempt: 1,
    };
    match (end, sale.status) {
        (VendEnd::Vended, _) => {
            let late = tables::set_vended(tx.conn(), &order_id).await?;
            note_late(&cx, &order_id, late)
        }
        (VendEnd::NotVended, SaleStatus::Vending) => tx.publish(settle).await,
        (VendEnd::Unanswered, SaleStatus::Vending) => {
            let grace = cx.config::<Config>()?.vend_grace();
            tx.publish_in(grace, settle).await
        }
        _ => Ok(()),
    }
}

/// A piece fell that was paid back: nobody pays for it, and the machine's next count says that it is gone.
fn note_late(cx: &Cx, order_id: &str, late: bool) -> Result<()> {
    if !late {
        return Ok(());
    }
    tracing::warn!(order_id, "a piece fell that was paid back");
    cx.audit("sale.fell_late", order_id)
}
