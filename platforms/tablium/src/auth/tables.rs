//! Accounts.

use trunkline::{Conn, Error, ErrorKind, Result, Timestamp, sql};

/// An account as it is stored.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) email: String,
    pub(super) username: String,
    pub(super) user_id: String,
    pub(super) password_hash: String,
}

/// The account of this address or name.
pub(super) async fn find(conn: &mut Conn, login: &str) -> Result<Option<Account>> {
    // A name has no `@`, so an account is found by one of them alone.
    let text = "SELECT email, username, user_id, password_hash FROM accounts \
                WHERE email = $1 OR username = $1";
    let row = sql(text).bind(login);
    let row = row.first::<(String, String, String, String)>(conn).await?;
    Ok(
        row.map(|(email, username, user_id, password_hash)| Account {
            email,
            username,
            user_id,
            password_hash,
        }),
    )
}

/// # Errors
/// `Conflict` with code `account_taken`.
pub(super) async fn insert(conn: &mut Conn, account: &Account, now: Timestamp) -> Result<()> {
    let text = "INSERT INTO accounts (email, username, user_id, password_hash, created_at) \
                VALUES ($1, $2, $3, $4, $5)";
    let inserted = sql(text)
        .bind(&account.email)
        .bind(&account.username)
        .bind(&account.user_id)
        .bind(&account.password_hash)
        .bind(now)
        .run(conn)
        .await;
    match inserted {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::Conflict => Err(taken()),
        Err(error) => Err(error),
    }
}

pub(super) fn taken() -> Error {
    let text = "there is an account of this address or name";
    Error::conflict("account_taken", text)
}
