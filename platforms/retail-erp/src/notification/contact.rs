//! Where a customer's mail goes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Conn, Cx, Error, Json, Result, sql};

use crate::limits;

/// Where a customer's mail goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// The address.
    pub email: String,
}

pub(super) async fn find(cx: Cx) -> Result<Json<Contact>> {
    let user = cx.user()?;
    let mut reader = cx.read().await?;
    let email = email_of(reader.conn(), &user).await?;
    let email = email.ok_or_else(|| limits::unknown("contact", &user))?;
    Ok(Json(Contact { email }))
}

pub(super) async fn save(cx: Cx, Json(contact): Json<Contact>) -> Result<Json<Contact>> {
    let user = cx.user()?;
    if contact.email.len() > 254 || contact.email.parse::<lettre::Address>().is_err() {
        let text = "email must be an address such as a@example.com";
        return Err(Error::invalid("email_invalid", text));
    }
    let mut tx = cx.tx().await?;
    let text = "INSERT INTO contacts (user_id, email) VALUES ($1, $2) \
                ON CONFLICT (user_id) DO UPDATE SET email = excluded.email";
    sql(text)
        .bind(&user)
        .bind(&contact.email)
        .run(tx.conn())
        .await?;
    Ok(Json(contact))
}

/// A user's address, if they gave one.
pub(super) async fn email_of(conn: &mut Conn, user_id: &str) -> Result<Option<String>> {
    let text = "SELECT email FROM contacts WHERE user_id = $1";
    let row = sql(text).bind(user_id).first::<(String,)>(conn).await?;
    Ok(row.map(|(email,)| email))
}
