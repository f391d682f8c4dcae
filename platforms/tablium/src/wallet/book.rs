//! The ledger: accounts, and movements between them.

use std::fmt;

use trunkline::{Conn, Result, Timestamp, sql};

use crate::Points;

/// Where points are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Account {
    /// A user's own.
    User(String),
    /// Set aside for a match.
    Held(String),
    /// Where they come from.
    House,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Held(id) => write!(f, "held:{id}"),
            Self::House => f.write_str("house"),
        }
    }
}

/// A movement of points.
#[derive(Debug, Clone)]
pub(super) struct Movement {
    /// Its name: the same one is made once.
    pub(super) name: String,
    pub(super) from: Account,
    pub(super) to: Account,
    pub(super) amount: Points,
}

/// What came of a movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// It is made; what both accounts have then.
    Now { from: Points, to: Points },
    /// It was made before.
    Before,
    /// There is less where it comes from; nothing is changed.
    Lacking,
}

/// Moves points, once.
pub(super) async fn apply(conn: &mut Conn, movement: &Movement, now: Timestamp) -> Result<Moved> {
    if is_made(conn, &movement.name).await? {
        return Ok(Moved::Before);
    }
    let taken = change(conn, &movement.from, movement.amount.negated()).await?;
    let Some(from) = taken else {
        return Ok(Moved::Lacking);
    };
    let to = change(conn, &movement.to, movement.amount).await?;
    let text = "INSERT INTO movements (movement, from_account, to_account, amount_minor, at) \
                VALUES ($1, $2, $3, $4, $5)";
    sql(text)
        .bind(&movement.name)
        .bind(movement.from.to_string())
        .bind(movement.to.to_string())
        .bind(movement.amount.minor())
        .bind(now)
        .run(conn)
        .await?;
    let to = to.unwrap_or(movement.amount);
    Ok(Moved::Now { from, to })
}

async fn is_made(conn: &mut Conn, name: &str) -> Result<bool> {
    let text = "SELECT movement FROM movements WHERE movement = $1";
    let found = sql(text).bind(name).first::<(String,)>(conn).await?;
    Ok(found.is_some())
}

/// What an account has after a change; none, and no change, if it had less than that.
async fn change(conn: &mut Conn, account: &Account, by: Points) -> Result<Option<Points>> {
    let text = "INSERT INTO accounts (account, balance_minor) VALUES ($1, 0) \
                ON CONFLICT (account) DO NOTHING";
    let account = account.to_string();
    sql(text).bind(&account).run(conn).await?;
    let text = "UPDATE accounts SET balance_minor = balance_minor + $2 \
                WHERE account = $1 AND (balance_minor + $2 >= 0 OR account = 'house') \
                RETURNING balance_minor";
    let update = sql(text).bind(&account).bind(by.minor());
    let left = update.first::<(i64,)>(conn).await?;
    Ok(left.map(|(minor,)| Points::of_minor(minor)))
}

/// What an account has; none when it is not there.
pub(super) async fn balance(conn: &mut Conn, account: &Account) -> Result<Option<Points>> {
    let text = "SELECT balance_minor FROM accounts WHERE account = $1";
    let row = sql(text).bind(account.to_string());
    let row = row.first::<(i64,)>(conn).await?;
    Ok(row.map(|(minor,)| Points::of_minor(minor)))
}

/// The sum of all accounts, and what is held.
pub(super) async fn sums(conn: &mut Conn) -> Result<(Points, Points)> {
    let text = "SELECT CAST(COALESCE(SUM(balance_minor), 0) AS BIGINT), CAST(COALESCE(SUM(\
                CASE WHEN account LIKE 'held:%' THEN balance_minor ELSE 0 END), 0) AS BIGINT) \
                FROM accounts";
    let (sum, held) = sql(text).one::<(i64, i64)>(conn).await?;
    Ok((Points::of_minor(sum), Points::of_minor(held)))
}
