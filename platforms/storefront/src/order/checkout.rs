//! Accepting an order.

use trunkline::{Accepted as AcceptedAt, Cx, Error, Json, Result};

use super::http::{Accepted, NewOrder, NewOrderItem, Order, OrderLine, Status};
use super::{Config, ORDER, OrderFlow, tables};
use crate::events::{Address, OrderCreated, OrderItem};
use crate::{Money, cart, inventory, limits, product, user};

/// Accepts an order: its stock is held before it exists, so that who orders what is sold out is told at once.
/// What becomes of it is told by events, or is its saga's.
///
/// If this fails between the two, the reservation ends when its time is up.
pub(super) async fn create(cx: Cx, Json(new): Json<NewOrder>) -> Result<AcceptedAt<Accepted>> {
    let user_id = cx.user()?;
    let order_id = cx.env().id().to_string();
    let wanted = match new.items {
        Some(items) => checked(items)?,
        None => cart_items(&cx, &order_id).await?,
    };
    let shipping_address = match new.shipping_address {
        Some(address) => Some(limits::address(address)?),
        None => default_address(&cx).await?,
    };
    let (items, currency) = priced(&cx, wanted).await?;
    let total = Money::sum(items.iter().map(|line| line.price.times(line.quantity)))?;
    let flow = cx.config::<Config>()?.flow;
    let pieces = items.iter().map(|line| (&*line.product_id, line.quantity));
    reserve(&cx, &order_id, pieces).await?;

    let now = cx.env().now();
    let mut tx = cx.tx().await?;
    let order = Order {
        order_id,
        order_number: tables::next_number(tx.conn(), now).await?,
        status: Status::Pending,
        reason: None,
        total,
        currency,
        items,
        shipping_address,
        created_at: now,
        updated_at: now,
    };
    tables::insert(tx.conn(), &order, (&user_id, flow)).await?;
    drop(tx);
    let created = created(&order, user_id.to_string());
    match flow {
        OrderFlow::Choreography => cx.publish(created).await?,
        OrderFlow::Orchestration => {
            cx.start_saga(ORDER, &created.order_id, &created).await?;
        }
    }
    let location = format!("/api/v1/orders/{}", order.order_id);
    Ok(AcceptedAt::at(
        location,
        Accepted {
            order_id: order.order_id,
            status: order.status,
        },
    ))
}

fn checked(items: Vec<NewOrderItem>) -> Result<Vec<NewOrderItem>> {
    limits::lines(items.len())?;
    items
        .iter()
        .try_for_each(|item| limits::quantity(item.quantity))?;
    Ok(items)
}

async fn cart_items(cx: &Cx, order_id: &str) -> Result<Vec<NewOrderItem>> {
    let checkout = cart::Checkout {
        order_id: order_id.to_owned(),
    };
    cx.service(cart::NAME)?
        .post("/internal/checkouts")
        .json(&checkout)
        .send()
        .await
}

/// The address that the user named first, if any.
async fn default_address(cx: &Cx) -> Result<Option<Address>> {
    let known = cx
        .service(user::NAME)?
        .get("/api/users/me/addresses/default")
        .send()
        .await;
    match known {
        Err(error) if error.code() == user::ADDRESS_UNKNOWN => Ok(None),
        known => known.map(Some),
    }
}

/// Asks the catalogue what each thing is called and costs now.
async fn priced(cx: &Cx, wanted: Vec<NewOrderItem>) -> Result<(Vec<OrderLine>, String)> {
    let items = wanted.iter().map(|item| product::QuoteItem {
        product_id: item.product_id.clone(),
        variant_id: item.variant_id.clone(),
    });
    let quotes = product::quotes(cx, items.collect()).await?;
    let currency = quotes
        .first()
        .map(|quote| quote.currency.clone())
        .unwrap_or_default();
    if quotes.len() != wanted.len() || quotes.iter().any(|quote| quote.currency != currency) {
        let text = "an order is in one currency";
        return Err(Error::invalid("currency_mixed", text));
    }
    let lines = wanted
        .into_iter()
        .zip(quotes)
        .map(|(item, quote)| OrderLine {
            product_id: item.product_id,
            variant_id: item.variant_id,
            name: quote.name,
            quantity: item.quantity,
            price: quote.price,
        });
    Ok((lines.collect(), currency))
}

/// Has stock held for an order, once: asked again, inventory-service says what it holds.
pub(super) async fn reserve(
    cx: &Cx,
    order_id: &str,
    pieces: impl Iterator<Item = (&str, u32)>,
) -> Result<()> {
    let items = pieces.map(|(product_id, quantity)| inventory::ReserveItem {
        product_id: product_id.to_owned(),
        quantity,
    });
    let request = inventory::Reserve {
        order_id: order_id.to_owned(),
        items: items.collect(),
    };
    let inventory = cx.service(inventory::NAME)?;
    let _: inventory::Reservation = inventory
        .post("/internal/reservations")
        .json(&request)
        .send()
        .await?;
    Ok(())
}

fn created(order: &Order, user_id: String) -> OrderCreated {
    let items = order.items.iter().map(|line| OrderItem {
        product_id: line.product_id.clone(),
        quantity: line.quantity,
        price: line.price,
    });
    OrderCreated {
        order_id: order.order_id.clone(),
        order_number: order.order_number.clone(),
        user_id,
        total: order.total,
        currency: order.currency.clone(),
        items: items.collect(),
        shipping_address: order.shipping_address.clone(),
    }
}
