//! Payments, cards and transaction numbers.

use trunkline::{Conn, Result, Timestamp, sql};

use crate::Money;

/// A payment as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) order_id: String,
    pub(super) payment_id: String,
    pub(super) user_id: String,
    pub(super) amount: Money,
    pub(super) currency: String,
    pub(super) card_token: String,
    pub(super) status: Status,
    pub(super) reason: Option<String>,
    pub(super) order_failed: bool,
    pub(super) transaction_id: Option<String>,
    pub(super) provider_transaction_id: Option<String>,
}

/// How a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// What became of the charge is not known yet.
    Processing,
    /// Charged.
    Succeeded,
    /// Not charged, and never will be.
    Failed,
    /// Charged and given back.
    Refunded,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Processing => "processing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Refunded => "refunded",
        }
    }
}

type PaymentRow = (
    String,
    String,
    i64,
    String,
    String,
    String,
    Option<String>,
    i64,
    Option<String>,
    Option<String>,
);

pub(super) async fn find(conn: &mut Conn, order_id: &str) -> Result<Option<Stored>> {
    let text = "SELECT payment_id, user_id, amount_minor, currency, card_token, status, reason, \
                order_failed, transaction_id, provider_transaction_id \
                FROM payments WHERE order_id = $1";
    let row = sql(text).bind(order_id).first::<PaymentRow>(conn).await?;
    let Some(row) = row else { return Ok(None) };
    let (payment_id, user_id, amount, currency, card_token, status, reason, failed, own, theirs) =
        row;
    Ok(Some(Stored {
        order_id: order_id.to_owned(),
        payment_id,
        user_id,
        amount: Money::from_minor(amount)?,
        currency,
        card_token,
        status: match status.as_str() {
            "processing" => Status::Processing,
            "succeeded" => Status::Succeeded,
            "refunded" => Status::Refunded,
            _ => Status::Failed,
        },
        reason,
        order_failed: failed != 0,
        transaction_id: own,
        provider_transaction_id: theirs,
    }))
}

/// The same, locked until the transaction ends.
pub(super) async fn lock(conn: &mut Conn, order_id: &str) -> Result<Option<Stored>> {
    let text = "UPDATE payments SET status = status WHERE order_id = $1";
    sql(text).bind(order_id).run(conn).await?;
    find(conn, order_id).await
}

/// The payment of an order, locked until the transaction ends: the one that is there, or this one that begins.
pub(super) async fn begin(conn: &mut Conn, payment: Stored) -> Result<Stored> {
    let text = "INSERT INTO payments (order_id, payment_id, user_id, amount_minor, currency, \
                card_token, status, order_failed) VALUES ($1, $2, $3, $4, $5, $6, $7, 0) \
                ON CONFLICT DO NOTHING";
    sql(text)
        .bind(&payment.order_id)
        .bind(&payment.payment_id)
        .bind(&payment.user_id)
        .bind(payment.amount)
        .bind(&payment.currency)
        .bind(&payment.card_token)
        .bind(payment.status.name())
        .run(conn)
        .await?;
    Ok(lock(conn, &payment.order_id).await?.unwrap_or(payment))
}

/// Writes what has become of a payment.
pub(super) async fn save(conn: &mut Conn, payment: &Stored) -> Result<()> {
    let text = "UPDATE payments SET status = $1, reason = $2, order_failed = $3, \
                transaction_id = $4, provider_transaction_id = $5 WHERE order_id = $6";
    sql(text)
        .bind(payment.status.name())
        .bind(&payment.reason)
        .bind(payment.order_failed)
        .bind(&payment.transaction_id)
        .bind(&payment.provider_transaction_id)
        .bind(&payment.order_id)
        .run(conn)
        .await?;
    Ok(())
}

/// Takes the next number of the year: `TXN-2024-00001`.
pub(super) async fn next_number(conn: &mut Conn, now: Timestamp) -> Result<String> {
    let year = now.to_zoned(jiff::tz::TimeZone::UTC).year();
    let text = "INSERT INTO transaction_numbers (year, last) VALUES ($1, 1) ON CONFLICT (year) \
                DO UPDATE SET last = transaction_numbers.last + 1 RETURNING last";
    let (number,) = sql(text).bind(i64::from(year)).one::<(i64,)>(conn).await?;
    Ok(format!("TXN-{year}-{number:05}"))
}

pub(super) async fn card(conn: &mut Conn, user_id: &str) -> Result<Option<String>> {
    let text = "SELECT token FROM cards WHERE user_id = $1";
    let card = sql(text).bind(user_id).first::<(String,)>(conn).await?;
    Ok(card.map(|(token,)| token))
}

pub(super) async fn set_card(conn: &mut Conn, user_id: &str, token: &str) -> Result<()> {
    let text = "INSERT INTO cards (user_id, token) VALUES ($1, $2) \
                ON CONFLICT (user_id) DO UPDATE SET token = excluded.token";
    sql(text).bind(user_id).bind(token).run(conn).await?;
    Ok(())
}
