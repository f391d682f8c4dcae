//! Accounts.

use trunkline::{Conn, Error, ErrorKind, Result, Timestamp, sql};

/// An account as it is stored.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) username: String,
    pub(super) user_id: String,
    pub(super) email: String,
    pub(super) password_hash: String,
}

pub(super) async fn find(conn: &mut Conn, username: &str) -> Result<Option<Account>> {
    let text = "SELECT username, user_id, email, password_hash FROM accounts WHERE username = $1";
    let row = sql(text).bind(username);
    let row = row.first::<(String, String, String, String)>(conn).await?;
    Ok(
        row.map(|(username, user_id, email, password_hash)| Account {
            username,
            user_id,
            email,
            password_hash,
        }),
    )
}

/// # Errors
/// `Conflict` with code `username_taken`.
pub(super) async fn insert(conn: &mut Conn, account: &Account, now: Timestamp) -> Result<()> {
    let text = "INSERT INTO accounts (username, user_id, email, password_hash, created_at) \
                VALUES ($1, $2, $3, $4, $5)";
    let inserted = sql(text)
        .bind(&account.username)
        .bind(&account.user_id)
        .bind(&account.email)
        .bind(&account.password_hash)
        .bind(now)
        .run(conn)
        .await;
    match inserted {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::Conflict => Err(Error::conflict(
            "username_taken",
            "there is an account of this name",
        )
        .with("username", &account.username)),
        Err(error) => Err(error),
    }
}
