//! Placing an order: reserve, pay, write it down.

use trunkline::{Created, Cx, Error, Json, Money, Result};

use super::http::{NewItem, NewOrder, Order, OrderLine, Quote, Status};
use super::tables;
use crate::events::{OrderCancelled, OrderConfirmed, OrderCreated, OrderItem};
use crate::proto::inventory::{Line, ReserveStockRequest};
use crate::{campaign, inventory, limits, payment};

/// Places an order. The answer tells how it ended, confirmed or cancelled.
///
/// # Errors
/// Those of the stock and the prices, before anything is paid. `Unavailable` when it is not known whether the payment
/// was made: the same request again goes on from there, and without one it is cancelled when its reservation expires.
pub(super) async fn create(cx: Cx, Json(new): Json<NewOrder>) -> Result<Created<Order>> {
    let user_id = cx.user()?.to_string();
    check(&new.shop_id, &new.items)?;
    let order_id = cx.stable_id().to_string();
    if let Some(there) = known(&cx, &order_id).await? {
        return Ok(created(there));
    }
    let items = campaign::prices(&cx, &new.shop_id, &new.items).await?;
    let mut order = Order {
        order_id,
        shop_id: new.shop_id,
        user_id,
        status: Status::Confirmed,
        reason: None,
        total_amount: total(&items)?,
        items,
        receipt: None,
        created_at: cx.now(),
    };
    inventory::reserve(&cx, reservation(&order)).await?;
    let wanted = payment::Process {
        order_id: order.order_id.clone(),
        amount: order.total_amount,
        card_token: new.card_token,
    };
    let payment = payment::process(&cx, wanted).await?;
    if payment.failure.is_some() {
        order.status = Status::Cancelled;
        order.reason = Some("payment_failed".to_owned());
        if let Err(error) = inventory::release(&cx, &order.order_id).await {
            // inventory-service hears it again, by the event.
            tracing::warn!(order_id = order.order_id, %error, "stock could not be released");
        }
    }
    write_down(&cx, order, &payment.payment_id)
        .await
        .map(created)
}

/// What an order would cost, and whether it could be had.
pub(super) async fn quote(cx: Cx, Json(new): Json<campaign::Prices>) -> Result<Json<Quote>> {
    check(&new.shop_id, &new.items)?;
    let items = campaign::prices(&cx, &new.shop_id, &new.items).await?;
    let mut available = true;
    for item in &new.items {
        let level = inventory::level(&cx, &new.shop_id, &item.product_id).await?;
        available &= level.is_some_and(|level| level.available >= item.quantity);
    }
    let total_amount = total(&items)?;
    Ok(Json(Quote {
        items,
        total_amount,
        available,
    }))
}

fn check(shop_id: &str, items: &[NewItem]) -> Result<()> {
    limits::id("shopId", shop_id)?;
    limits::lines(items.len())?;
    items.iter().try_for_each(|item| {
        limits::id("productId", &item.product_id)?;
        limits::quantity(item.quantity)
    })
}

async fn known(cx: &Cx, order_id: &str) -> Result<Option<Order>> {
    let mut reader = cx.read().await?;
    tables::find(reader.conn(), order_id).await
}

fn total(items: &[OrderLine]) -> Result<Money> {
    Money::sum(items.iter().map(|line| line.price.times(line.quantity)))
}

fn reservation(order: &Order) -> ReserveStockRequest {
    let lines = order.items.iter().map(|line| Line {
        product_id: line.product_id.clone(),
        quantity: line.quantity,
    });
    ReserveStockRequest {
        order_id: order.order_id.clone(),
        shop_id: order.shop_id.clone(),
        lines: lines.collect(),
    }
}

/// Writes an order down as it ended, and tells the others. One that was cancelled meanwhile stays so.
async fn write_down(cx: &Cx, order: Order, payment_id: &str) -> Result<Order> {
    let mut tx = cx.tx().await?;
    if !tables::insert(tx.conn(), &order, Some(payment_id)).await? {
        let text = "the order took too long and was cancelled; what was paid is paid back";
        return Err(Error::conflict("order_cancelled", text));
    }
    let order_id = order.order_id.clone();
    if let Some(reason) = order.reason.clone() {
        tx.publish(OrderCancelled { order_id, reason }).await?;
        return Ok(order);
    }
    let items = order.items.iter().map(|line| OrderItem {
        product_id: line.product_id.clone(),
        quantity: line.quantity,
        price: line.price,
    });
    tx.publish(OrderCreated {
        order_id: order_id.clone(),
        shop_id: order.shop_id.clone(),
        user_id: order.user_id.clone(),
        items: items.collect(),
        total_amount: order.total_amount,
    })
    .await?;
    let status = order.status.name().to_owned();
    tx.publish(OrderConfirmed { order_id, status }).await?;
    Ok(order)
}

fn created(order: Order) -> Created<Order> {
    Created::at(format!("/orders/{}", order.order_id), order)
}
