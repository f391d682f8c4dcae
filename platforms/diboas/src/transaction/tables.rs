//! Transactions and their legs.

use trunkline::{Conn, Error, Result, Timestamp, sql};

use super::http::{Status, Transaction};
use crate::chains::Chain;
use crate::provider::{LegKind, Receipt};
use crate::words::of_word;
use crate::{Amount, Currency};

type Row = (
    String,
    String,
    String,
    String,
    String,
    String,
    i64,
    String,
    Option<String>,
    String,
);

fn read(row: Row) -> Result<Transaction> {
    let (transaction_id, user_id, recipient, from, to, currency, minor, status, reason, at) = row;
    let created_at: Timestamp = at
        .parse()
        .map_err(|error: jiff::Error| Error::internal("a time is stored").with_source(error))?;
    Ok(Transaction {
        transaction_id,
        user_id,
        recipient,
        amount: Amount::of_minor(minor, Currency::of(&currency)?),
        from: chain(from)?,
        to: chain(to)?,
        status: of_word::<Status>(status)?,
        reason,
        created_at,
    })
}

fn chain(name: String) -> Result<Chain> {
    of_word(name)
}

pub(super) async fn insert(conn: &mut Conn, new: &Transaction) -> Result<()> {
    let text = "INSERT INTO transactions (transaction_id, user_id, recipient, from_chain, to_chain, currency, \
                amount_minor, status, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 'processing', $8)";
    sql(text)
        .bind(&new.transaction_id)
        .bind(&new.user_id)
        .bind(&new.recipient)
        .bind(new.from.name())
        .bind(new.to.name())
        .bind(new.amount.currency().code())
        .bind(new.amount.minor())
        .bind(new.created_at)
        .run(conn)
        .await?;
    Ok(())
}

pub(super) async fn find(conn: &mut Conn, transaction_id: &str) -> Result<Option<Transaction>> {
    let text = "SELECT transaction_id, user_id, recipient, from_chain, to_chain, currency, amount_minor, status, reason, \
                created_at FROM transactions WHERE transaction_id = $1";
    let row = sql(text).bind(transaction_id).first::<Row>(conn).await?;
    row.map(read).transpose()
}

pub(super) async fn of_user(conn: &mut Conn, user_id: &str) -> Result<Vec<Transaction>> {
    let text = "SELECT transaction_id, user_id, recipient, from_chain, to_chain, currency, amount_minor, status, reason, \
                created_at FROM transactions WHERE user_id = $1 ORDER BY created_at DESC, transaction_id LIMIT $2";
    let rows = sql(text)
        .bind(user_id)
        .bind(crate::limits::PAGE_MAX)
        .all::<Row>(conn)
        .await?;
    rows.into_iter().map(read).collect()
}

pub(super) async fn complete(conn: &mut Conn, transaction_id: &str) -> Result<()> {
    let text = "UPDATE transactions SET status = 'completed' WHERE transaction_id = $1";
    sql(text).bind(transaction_id).run(conn).await?;
    Ok(())
}

/// Notes that it came to nothing, and why. Says whether that is new.
pub(super) async fn fail(conn: &mut Conn, transaction_id: &str, reason: &str) -> Result<bool> {
    let text = "UPDATE transactions SET status = 'failed', reason = $2 \
                WHERE transaction_id = $1 AND status = 'processing'";
    let changed = sql(text)
        .bind(transaction_id)
        .bind(reason)
        .run(conn)
        .await?;
    Ok(changed == 1)
}

pub(super) async fn note_leg(conn: &mut Conn, transaction_id: &str, done: &Receipt) -> Result<()> {
    let text = "INSERT INTO legs (transaction_id, leg, provider, chain, tx_hash) VALUES ($1, $2, $3, $4, $5) \
                ON CONFLICT (transaction_id, leg) DO UPDATE SET provider = excluded.provider, \
                chain = excluded.chain, tx_hash = excluded.tx_hash";
    sql(text)
        .bind(transaction_id)
        .bind(done.leg.name())
        .bind(&done.provider)
        .bind(done.chain.name())
        .bind(&done.tx_hash)
        .run(conn)
        .await?;
    Ok(())
}

pub(super) async fn forget_leg(conn: &mut Conn, transaction_id: &str, leg: LegKind) -> Result<()> {
    let text = "DELETE FROM legs WHERE transaction_id = $1 AND leg = $2";
    sql(text)
        .bind(transaction_id)
        .bind(leg.name())
        .run(conn)
        .await?;
    Ok(())
}

pub(super) async fn legs(conn: &mut Conn, transaction_id: &str) -> Result<Vec<Receipt>> {
    let text = "SELECT leg, provider, chain, tx_hash FROM legs WHERE transaction_id = $1";
    let rows = sql(text)
        .bind(transaction_id)
        .all::<(String, String, String, String)>(conn)
        .await?;
    let read = |(leg, provider, chain_name, tx_hash)| {
        Ok(Receipt {
            provider,
            leg: of_word(leg)?,
            chain: chain(chain_name)?,
            tx_hash,
        })
    };
    let mut legs: Vec<Receipt> = rows.into_iter().map(read).collect::<Result<_>>()?;
    legs.sort_by_key(|done| LegKind::ALL.iter().position(|kind| *kind == done.leg));
    Ok(legs)
}
