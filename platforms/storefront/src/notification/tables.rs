//! Whom to write to, about what, and what was sent.

use trunkline::{Result, Timestamp};

use super::templates::Order;
use crate::Money;
use crate::events::OrderCreated;
use crate::sql::{Conn, sql};

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
    let text = "INSERT INTO orders (order_id, order_number, user_id, total_minor, currency) \
                VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    sql(text)
        .bind(&order.order_id)
        .bind(&order.order_number)
        .bind(&order.user_id)
        .bind(order.total)
        .bind(&order.currency)
        .run(conn)
        .await?;
    Ok(())
}

/// An order, and who made it.
pub(super) async fn order(conn: &mut Conn, order_id: &str) -> Result<Option<(String, Order)>> {
    let text = "SELECT user_id, order_number, total_minor, currency FROM orders \
                WHERE order_id = $1";
    let row = sql(text).bind(order_id);
    let row = row.first::<(String, String, i64, String)>(conn).await?;
    let order = row.map(|(user_id, number, total, currency)| {
        Ok((
            user_id,
            Order {
                number,
                total: Money::from_minor(total)?,
                currency,
            },
        ))
    });
    order.transpose()
}

#[expect(clippy::too_many_arguments, reason = "a row has as many columns")]
pub(super) async fn note_mail(
    conn: &mut Conn,
    event_id: &str,
    subject_id: &str,
    template: &str,
    recipient: &str,
    now: Timestamp,
) -> Result<()> {
    let text = "INSERT INTO mails (event_id, subject_id, template, recipient, sent_at) \
                VALUES ($1, $2, $3, $4, $5)";
    sql(text)
        .bind(event_id)
        .bind(subject_id)
        .bind(template)
        .bind(recipient)
        .bind(now)
        .run(conn)
        .await?;
    Ok(())
}
