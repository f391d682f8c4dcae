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

pub(super) async fn save_contact(
    conn: &mut Conn,
    user_id: &str,
    contact: &Contact,
) -> Result<()> {
    let text = "INSERT INTO contacts (user_id, name, email) VALUES ($1, $2, $3) \
                ON CONFLICT (user_id) DO UPDATE SET name = excluded.name, email = excluded.email";
    sql(text)
        .bind(user_id.to_owned())
        .bind(contact.name.clone())
        .bind(contact.email.clone())
        .run(conn)
        .await?;
    Ok(())
}

pub(super) async fn contact(conn: &mut Conn, user_id: &str) -> Result<Option<Contact>> {
    let text = "SELECT name, email FROM contacts WHERE user_id = $1";
    let row = sql(text).bind(user_id.to_owned()).first::<(String, String)>(conn).await?;
    Ok(row.map(|(name, email)| Contact { name, email }))
}

pub(super) async fn save_order(conn: &mut Conn, order: &OrderCreated) -> Result<()> {
    let text = "INSERT INTO orders (order_id, order_number, user_id, total_minor, currency) \
                VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    sql(text)
        .bind(order.order_id.clone())
        .bind(order.order_number.clone())
        .bind(order.user_id.clone())
        .bind(order.total.minor())
        .bind(order.currency.clone())
        .run(conn)
        .await?;
    Ok(())
}

/// An order, and who made it.
pub(super) async fn order(conn: &mut Conn, order_id: &str) -> Result<Option<(String, Order)>> {
    let text = "SELECT user_id, order_number, total_minor, currency FROM orders \
                WHERE order_id = $1";
    let row = sql(text).bind(order_id.to_owned());
    let row = row.first::<(String, String, i64, String)>(conn).await?;
    let order = row.map(|(user_id, number, total, currency)| {
        Ok((user_id, Order { number, total: Money::from_minor(total)?, currency }))
    });
    order.transpose()
}

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
        .bind(event_id.to_owned())
        .bind(subject_id.to_owned())
        .bind(template.to_owned())
        .bind(recipient.to_owned())
        .bind(now.to_string())
        .run(conn)
        .await?;
    Ok(())
}
