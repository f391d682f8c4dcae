//! Whom to write to, about what, and what was sent.

use trunkline::{Conn, Result, Timestamp, sql};

use super::templates::Order;
use crate::Money;
use crate::events::{Address, OrderCreated, SendNotification};

/// Whom to write to.
#[derive(Debug, Clone)]
pub(super) struct Contact {
    pub(super) name: String,
    pub(super) email: String,
}

pub(super) async fn save_contact(conn: &mut Conn, user_id: &str, contact: &Contact) -> Result<()> {
    let text = "INSERT INTO contacts (user_id, name, email) VALUES ($1, $2, $3) \
                ON CONFLICT (user_id) DO UPDATE SET name = excluded.name, email = excluded.email";
    sql(text)
        .bind(user_id)
        .bind(&contact.name)
        .bind(&contact.email)
        .run(conn)
        .await?;
    Ok(())
}

pub(super) async fn contact(conn: &mut Conn, user_id: &str) -> Result<Option<Contact>> {
    let text = "SELECT name, email FROM contacts WHERE user_id = $1";
    let row = sql(text)
        .bind(user_id)
        .first::<(String, String)>(conn)
        .await?;
    Ok(row.map(|(name, email)| Contact { name, email }))
}

pub(super) async fn save_order(conn: &mut Conn, order: &OrderCreated) -> Result<()> {
    let text = "INSERT INTO orders \
                (order_id, order_number, user_id, total_minor, currency, pieces, ship_to) \
                VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    let pieces = order.items.iter().map(|item| u64::from(item.quantity));
    let ship_to = order.shipping_address.as_ref().map(lines);
    let ship_to = ship_to.unwrap_or_default();
    sql(text)
        .bind(&order.order_id)
        .bind(&order.order_number)
        .bind(&order.user_id)
        .bind(order.total)
        .bind(&order.currency)
        .bind(pieces.sum::<u64>())
        .bind(ship_to)
        .run(conn)
        .await?;
    Ok(())
}

/// An address as it stands on a parcel.
fn lines(address: &Address) -> String {
    let Address {
        address_line1,
        address_line2,
        city,
        state,
        postal_code,
        country,
    } = address;
    let place = format!("{city}, {state} {postal_code}");
    let lines = [Some(address_line1), address_line2.as_ref()];
    let lines = lines.into_iter().flatten().chain([&place, country]);
    lines.cloned().collect::<Vec<_>>().join("\n")
}

/// An order, and who made it.
pub(super) async fn order(conn: &mut Conn, order_id: &str) -> Result<Option<(String, Order)>> {
    type Row = (String, String, i64, String, i64, String);
    let text = "SELECT user_id, order_number, total_minor, currency, pieces, ship_to FROM orders \
                WHERE order_id = $1";
    let row = sql(text).bind(order_id).first::<Row>(conn).await?;
    let order = row.map(|(user_id, number, total, currency, pieces, ship_to)| {
        Ok((
            user_id,
            Order {
                number,
                total: Money::from_minor(total)?,
                currency,
                pieces: u32::try_from(pieces).unwrap_or_default(),
                ship_to,
            },
        ))
    });
    order.transpose()
}

/// Notes a mail. One that was replayed after all is noted with its last recipient.
pub(super) async fn note_mail(
    conn: &mut Conn,
    mail: &SendNotification,
    recipient: &str,
    now: Timestamp,
) -> Result<()> {
    let text = "INSERT INTO mails (event_id, subject_id, template, recipient, sent_at) \
                VALUES ($1, $2, $3, $4, $5) ON CONFLICT (event_id) DO UPDATE SET \
                recipient = excluded.recipient, sent_at = excluded.sent_at";
    sql(text)
        .bind(&mail.event_id)
        .bind(&mail.subject_id)
        .bind(&mail.template)
        .bind(recipient)
        .bind(now)
        .run(conn)
        .await?;
    Ok(())
}
