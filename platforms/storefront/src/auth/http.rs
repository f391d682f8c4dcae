//! Opening an account, and logging in.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Created, Cx, Error, ErrorKind, Json, Result, Signer, password};

use super::Config;
use super::tables::{self, Account};
use crate::events::UserRegistered;
use crate::{demo, limits};

/// A new account.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Register {
    /// The name to log in with: letters, digits, `.`, `-` and `_`.
    username: String,
    /// Where mail goes.
    email: String,
    /// At least eight characters.
    password: String,
}

/// Who wants in.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// The account's name.
    username: String,
    /// Its password.
    password: String,
}

/// A proof of who somebody is.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct Token {
    /// The user.
    user_id: String,
    /// A JWT, for the header `Authorization: Bearer`.
    token: String,
    /// How long it is good for, in seconds.
    expires_in: u32,
}

pub(super) async fn register(cx: Cx, Json(new): Json<Register>) -> Result<Created<Token>> {
    let username = username(&new.username)?;
    let email = limits::email(&new.email)?.to_owned();
    if !password::LENGTH.contains(&new.password.chars().count()) {
        let text = "a password has 8 to 200 characters";
        return Err(Error::invalid("password_invalid", text));
    }
    let account = Account {
        user_id: demo::user_id(&username),
        username,
        email,
        password_hash: password::hash(new.password, cx.env()).await?,
    };
    open(&cx, &account).await?;
    Ok(Created::at("/api/users/me", token(&cx, &account)?))
}

pub(super) async fn login(cx: Cx, Json(login): Json<Login>) -> Result<Json<Token>> {
    let account = {
        let mut reader = cx.read().await?;
        tables::find(reader.conn(), &login.username.trim().to_lowercase()).await?
    };
    let hash = account
        .as_ref()
        .map(|account| account.password_hash.clone());
    let right = password::verify(login.password, hash).await?;
    match account {
        Some(account) if right => Ok(Json(token(&cx, &account)?)),
        _ => {
            let text = "the name or the password is wrong";
            Err(Error::new(
                ErrorKind::Unauthenticated,
                "login_refused",
                text,
            ))
        }
    }
}

/// Stores an account and tells the others.
pub(super) async fn open(cx: &Cx, account: &Account) -> Result<()> {
    let mut tx = cx.tx().await?;
    tables::insert(tx.conn(), account, cx.env().now()).await?;
    tx.publish(UserRegistered {
        user_id: account.user_id.clone(),
        username: account.username.clone(),
        email: account.email.clone(),
    })
    .await
}

fn token(cx: &Cx, account: &Account) -> Result<Token> {
    let expires_in = cx.config::<Config>()?.token_seconds;
    let signer = cx.state::<Signer>()?;
    let lifetime = Duration::from_secs(expires_in.into());
    let claims = demo::claims(&account.username, &[], lifetime, cx.env());
    Ok(Token {
        user_id: account.user_id.clone(),
        token: signer.sign(&claims)?,
        expires_in,
    })
}

fn username(name: &str) -> Result<String> {
    let name = name.trim().to_lowercase();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if (3..=40).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(name);
    }
    let text = "a username has 3 to 40 letters, digits, '.', '-' or '_'";
    Err(Error::invalid("username_invalid", text))
}
