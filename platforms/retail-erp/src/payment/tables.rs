//! Payments.

use trunkline::{Conn, Money, Result, sql};

/// A payment as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) order_id: String,
    pub(super) payment_id: String,
    pub(super) user_id: String,
    pub(super) amount: Money,
    pub(super) status: Status,
    pub(super) reason: Option<String>,
    pub(super) refund_id: Option<String>,
}

/// How a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Charged.
    Succeeded,
    /// Not charged, and never will be.
    Failed,
    /// Charged and given back.
    Refunded,
    /// Its order was cancelled before it was charged, and it never will be.
    Voided,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Refunded => "refunded",
            Self::Voided => "voided",
        }
    }
}

type Row = (
    String,
    String,
    String,
    i64,
    String,
    Option<String>,
    Option<String>,
);

fn read(row: Row) -> Result<Stored> {
    let (order_id, payment_id, user_id, amount, status, reason, refund_id) = row;
    Ok(Stored {
        order_id,
        payment_id,
        user_id,
        amount: Money::from_minor(amount)?,
        status: match status.as_str() {
            "succeeded" => Status::Succeeded,
            "failed" => Status::Failed,
            "refunded" => Status::Refunded,
            _ => Status::Voided,
        },
        reason,
        refund_id,
    })
}

pub(super) async fn find(conn: &mut Conn, order_id: &str) -> Result<Option<Stored>> {
    let text = "SELECT order_id, payment_id, user_id, amount_minor, status, reason, refund_id \
                FROM payments WHERE order_id = $1";
    sql(text)
        .bind(order_id)
        .first::<Row>(conn)
        .await?
        .map(read)
        .transpose()
}

/// The same, locked until the transaction ends.
pub(super) async fn lock(conn: &mut Conn, order_id: &str) -> Result<Option<Stored>> {
    let text = "UPDATE payments SET status = status WHERE order_id = $1 RETURNING order_id, \
                payment_id, user_id, amount_minor, status, reason, refund_id";
    sql(text)
        .bind(order_id)
        .first::<Row>(conn)
        .await?
        .map(read)
        .transpose()
}

/// Writes a payment, unless the order has one. Says whether it is new.
pub(super) async fn insert(conn: &mut Conn, payment: &Stored) -> Result<bool> {
    let text = "INSERT INTO payments (order_id, payment_id, user_id, amount_minor, status, reason, \
                refund_id) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (order_id) DO NOTHING";
    let inserted = sql(text)
        .bind(&payment.order_id)
        .bind(&payment.payment_id)
        .bind(&payment.user_id)
        .bind(payment.amount)
        .bind(payment.status.name())
        .bind(&payment.reason)
        .bind(&payment.refund_id)
        .run(conn)
        .await?;
    Ok(inserted == 1)
}

/// Notes that a payment was given back.
pub(super) async fn set_refunded(conn: &mut Conn, payment: &Stored) -> Result<()> {
    let text = "UPDATE payments SET status = 'refunded', refund_id = $1, amount_minor = $2 \
                WHERE order_id = $3";
    sql(text)
        .bind(&payment.refund_id)
        .bind(payment.amount)
        .bind(&payment.order_id)
        .run(conn)
        .await?;
    Ok(())
}
