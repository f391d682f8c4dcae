//! A user's own profile and addresses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Created, Cx, Error, Json, NoContent, Path, Result};

use super::{ADDRESS_UNKNOWN, tables};
use crate::events::{Address, UserUpdated};
use crate::limits;

/// A user's profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// The user.
    pub user_id: String,
    /// The name to log in with.
    pub username: String,
    /// The name to address the user by.
    pub full_name: String,
    /// Where mail goes.
    pub email: String,
}

/// What to change of a profile.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeProfile {
    /// The name to address the user by.
    pub full_name: String,
    /// Where mail goes.
    pub email: String,
}

/// An address of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoredAddress {
    /// Its id.
    pub address_id: String,
    /// The address.
    pub address: Address,
}

pub(super) async fn profile(cx: Cx) -> Result<Json<Profile>> {
    let user = cx.user()?;
    let mut reader = cx.read().await?;
    let profile = tables::profile(reader.conn(), &user).await?;
    Ok(Json(profile.ok_or_else(|| unknown(&user))?))
}

pub(super) async fn change_profile(
    cx: Cx,
    Json(change): Json<ChangeProfile>,
) -> Result<Json<Profile>> {
    let user = cx.user()?;
    let mut tx = cx.tx().await?;
    let profile = tables::profile(tx.conn(), &user).await?;
    let mut profile = profile.ok_or_else(|| unknown(&user))?;
    profile.full_name = limits::text("full_name", &change.full_name, 100)?.to_owned();
    profile.email = limits::email(&change.email)?.to_owned();
    tables::save_profile(tx.conn(), &profile).await?;
    tx.publish(UserUpdated {
        user_id: profile.user_id.clone(),
        full_name: profile.full_name.clone(),
        email: profile.email.clone(),
    })
    .await?;
    Ok(Json(profile))
}

pub(super) async fn addresses(cx: Cx) -> Result<Json<Vec<StoredAddress>>> {
    let user = cx.user()?;
    let mut reader = cx.read().await?;
    Ok(Json(tables::addresses(reader.conn(), &user).await?))
}

pub(super) async fn add_address(
    cx: Cx,
    Json(address): Json<Address>,
) -> Result<Created<StoredAddress>> {
    let user = cx.user()?;
    let address = limits::address(address)?;
    let address_id = cx.env().id().to_string();
    let mut tx = cx.tx().await?;
    tables::add_address(tx.conn(), &user, &address_id, &address).await?;
    let location = format!("/api/users/me/addresses/{address_id}");
    Ok(Created::at(
        location,
        StoredAddress {
            address_id,
            address,
        },
    ))
}

pub(super) async fn default_address(cx: Cx) -> Result<Json<Address>> {
    let user = cx.user()?;
    let mut reader = cx.read().await?;
    let first = tables::addresses(reader.conn(), &user)
        .await?
        .into_iter()
        .next();
    let first = first.ok_or_else(|| {
        let text = "no address is known";
        Error::not_found(ADDRESS_UNKNOWN, text)
    })?;
    Ok(Json(first.address))
}

pub(super) async fn remove_address(cx: Cx, Path(address_id): Path<String>) -> Result<NoContent> {
    let user = cx.user()?;
    let mut tx = cx.tx().await?;
    if tables::remove_address(tx.conn(), &user, &address_id).await? {
        return Ok(NoContent);
    }
    let error = Error::not_found(ADDRESS_UNKNOWN, "there is no such address");
    Err(error.with("address_id", &address_id))
}

fn unknown(user_id: &str) -> Error {
    Error::not_found("user_unknown", "the user has no profile").with("user_id", user_id)
}
