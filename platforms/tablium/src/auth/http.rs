//! Opening an account, and logging in.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Claims, Created, Cx, Error, ErrorKind, Json, Result, Signer, password};

use super::tables::{self, Account};
use super::{Config, ISSUER};
use crate::events::UserRegistered;
use crate::{limits, user};

/// A new account.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Register {
    /// To log in with; nobody else sees it.
    email: String,
    /// The name that others see: letters, digits, `.`, `-` and `_`.
    username: String,
    /// At least eight characters.
    password: String,
}

/// Who wants in, by one of the two.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// The address of the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    /// Or its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    /// Its password.
    password: String,
}

/// A proof of who somebody is.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SignedIn {
    /// A JWT, for the header `Authorization: Bearer` and the handshake of Socket.IO.
    token: String,
    /// The user.
    user_id: String,
    /// Their name.
    username: String,
    /// How long the token is good for, in seconds.
    expires_in: u32,
}

pub(super) async fn register(cx: Cx, Json(new): Json<Register>) -> Result<Created<SignedIn>> {
    let username = limits::username(&new.username)?;
    let email = limits::email(&new.email)?;
    if !password::LENGTH.contains(&new.password.chars().count()) {
        let text = "a password has 8 to 200 characters";
        return Err(Error::invalid("password_invalid", text));
    }
    if by(&cx, &email).await?.is_some() {
        return Err(tables::taken());
    }
    claim_name(&cx, &username, &email).await?;
    let account = Account {
        user_id: format!("usr_{}", cx.env().id().simple()),
        password_hash: password::hash(new.password, cx.env()).await?,
        email,
        username,
    };
    let mut tx = cx.tx().await?;
    tables::insert(tx.conn(), &account, cx.now()).await?;
    tx.publish(UserRegistered {
        user_id: account.user_id.clone(),
        email: account.email.clone(),
        username: account.username.clone(),
    })
    .await?;
    Ok(Created::at("/api/v1/users/me", signed_in(&cx, account)?))
}

pub(super) async fn login(cx: Cx, Json(login): Json<Login>) -> Result<Json<SignedIn>> {
    let name = login.email.or(login.username).unwrap_or_default();
    let account = by(&cx, &name.trim().to_lowercase()).await?;
    let hash = account
        .as_ref()
        .map(|account| account.password_hash.clone());
    let right = password::verify(login.password, hash).await?;
    match account {
        Some(account) if right => Ok(Json(signed_in(&cx, account)?)),
        _ => {
            let text = "the name or the password is wrong";
            let kind = ErrorKind::Unauthenticated;
            Err(Error::new(kind, "login_refused", text))
        }
    }
}

async fn by(cx: &Cx, login: &str) -> Result<Option<Account>> {
    let mut reader = cx.read().await?;
    tables::find(reader.conn(), login).await
}

/// Names are user-service's. A claim whose registration came to nothing is renewed by the same address.
async fn claim_name(cx: &Cx, username: &str, email: &str) -> Result<()> {
    let claim = user::NameClaim {
        username: username.to_owned(),
        email: email.to_owned(),
    };
    let users = cx.service(user::NAME)?;
    let request = users.post("/internal/usernames").json(&claim);
    let _: user::NameClaim = request.idempotent().send().await?;
    Ok(())
}

fn signed_in(cx: &Cx, account: Account) -> Result<SignedIn> {
    let expires_in = cx.config::<Config>()?.token_seconds;
    let lifetime = Duration::from_secs(expires_in.into());
    let claims = Claims::new(&*account.user_id, lifetime, cx.env())
        .issued_by(ISSUER)
        .named(&*account.username);
    Ok(SignedIn {
        token: cx.state::<Signer>()?.sign(&claims)?,
        user_id: account.user_id,
        username: account.username,
        expires_in,
    })
}
