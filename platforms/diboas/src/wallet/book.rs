//! The ledger: accounts, and movements between them.

use std::fmt;

use trunkline::{Conn, Error, Result, Timestamp, sql};

use crate::{Amount, Currency};

/// Where money is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Account {
    /// A user's own.
    User(String),
    /// Set aside for a transaction.
    Held(String),
    /// Beyond the platform.
    Outside,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Held(id) => write!(f, "held:{id}"),
            Self::Outside => f.write_str("outside"),
        }
    }
}

/// A movement of money.
#[derive(Debug, Clone)]
pub(super) struct Movement {
    /// Its name: the same one is made once.
    pub(super) name: String,
    pub(super) from: Account,
    pub(super) to: Account,
    pub(super) amount: Amount,
}

/// Moves money, unless that was done before; what both accounts have then, or `None`.
///
/// # Errors
/// `Conflict` with code `funds_insufficient` when there is less where it comes from.
pub(super) async fn apply(
    conn: &mut Conn,
    movement: &Movement,
    now: Timestamp,
) -> Result<Option<(Amount, Amount)>> {
    let Movement {
        name,
        from,
        to,
        amount,
    } = movement;
    let text = "INSERT INTO movements (movement, from_account, to_account, currency, amount_minor, at) \
                VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (movement) DO NOTHING";
    let inserted = sql(text)
        .bind(name)
        .bind(from.to_string())
        .bind(to.to_string())
        .bind(amount.currency().code())
        .bind(amount.minor())
        .bind(now)
        .run(conn)
        .await?;
    if inserted == 0 {
        return Ok(None);
    }
    let left = change(conn, from, amount.negated()).await?;
    if left.minor() < 0 && *from != Account::Outside {
        let error = Error::conflict("funds_insufficient", "there is less than that");
        return Err(error.with("asked", amount));
    }
    let there = change(conn, to, *amount).await?;
    Ok(Some((left, there)))
}

/// What an account has after a change.
async fn change(conn: &mut Conn, account: &Account, by: Amount) -> Result<Amount> {
    // A row that would fall below zero is not made, so that the check of the table is not what says so.
    let text = "INSERT INTO accounts (account, currency, balance_minor) VALUES ($1, $2, 0) \
                ON CONFLICT (account, currency) DO NOTHING";
    sql(text)
        .bind(account.to_string())
        .bind(by.currency().code())
        .run(conn)
        .await?;
    let text = "UPDATE accounts SET balance_minor = balance_minor + $3 \
                WHERE account = $1 AND currency = $2 AND (balance_minor + $3 >= 0 OR account = 'outside') \
                RETURNING balance_minor";
    let left = sql(text)
        .bind(account.to_string())
        .bind(by.currency().code())
        .bind(by.minor())
        .first::<(i64,)>(conn)
        .await?;
    let below = (-1,);
    Ok(Amount::of_minor(left.unwrap_or(below).0, by.currency()))
}

/// Whether a movement was made.
pub(super) async fn made(conn: &mut Conn, name: &str) -> Result<Option<Amount>> {
    let text = "SELECT currency, amount_minor FROM movements WHERE movement = $1";
    let row = sql(text).bind(name).first::<(String, i64)>(conn).await?;
    row.map(amount).transpose()
}

/// What an account has, by currency.
pub(super) async fn balances(conn: &mut Conn, account: &Account) -> Result<Vec<Amount>> {
    let text = "SELECT currency, balance_minor FROM accounts WHERE account = $1 ORDER BY currency";
    let rows = sql(text)
        .bind(account.to_string())
        .all::<(String, i64)>(conn)
        .await?;
    rows.into_iter().map(amount).collect()
}

/// The sum of all accounts, and what is held, by currency.
pub(super) async fn sums(conn: &mut Conn) -> Result<Vec<(Amount, Amount)>> {
    let text = "SELECT currency, CAST(SUM(balance_minor) AS BIGINT), \
                CAST(SUM(CASE WHEN account LIKE 'held:%' THEN balance_minor ELSE 0 END) AS BIGINT) \
                FROM accounts GROUP BY currency ORDER BY currency";
    let rows = sql(text).all::<(String, i64, i64)>(conn).await?;
    let read = |(code, sum, held): (String, i64, i64)| {
        let currency = Currency::of(&code)?;
        Ok((
            Amount::of_minor(sum, currency),
            Amount::of_minor(held, currency),
        ))
    };
    rows.into_iter().map(read).collect()
}

fn amount((code, minor): (String, i64)) -> Result<Amount> {
    Ok(Amount::of_minor(minor, Currency::of(&code)?))
}

/// Whose money a hold is, and how much; none for one that was refused beforehand.
pub(super) async fn holder(conn: &mut Conn, hold: &str) -> Result<Option<(String, Amount)>> {
    let text = "SELECT from_account, currency, amount_minor FROM movements WHERE movement = $1";
    let row = sql(text)
        .bind(hold)
        .first::<(String, String, i64)>(conn)
        .await?;
    let Some((from, code, minor)) = row else {
        return Ok(None);
    };
    let user = from.strip_prefix("user:").map(str::to_owned);
    let amount = amount((code, minor))?;
    Ok(user.map(|user| (user, amount)))
}
