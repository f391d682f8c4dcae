//! Users as they are asked for and shown.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Error, ErrorKind, Json, Path, Result, Timestamp};

use super::tables;
use crate::events::ProfileUpdated;
use crate::limits;
use crate::wallet::{self, Wallet};

/// Characters of a name to address somebody by.
const DISPLAY_NAME_CHARS_MAX: usize = 60;

/// A user, as others see them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// The user.
    pub user_id: String,
    /// Their name.
    pub username: String,
    /// The name to address them by.
    pub display_name: String,
    /// Where mail goes; the user alone sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// What they have played.
    pub statistics: Statistics,
    /// What they have achieved, the first first.
    pub achievements: Vec<Earned>,
}

/// What a user has played.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Statistics {
    /// Games.
    pub played: u32,
    /// Those won.
    pub won: u32,
    /// Those lost.
    pub lost: u32,
    /// Those that nobody won.
    pub drawn: u32,
    /// Most won in a row.
    pub wins_in_a_row: u32,
}

/// Something that a user has achieved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Earned {
    /// What it is called, such as `first-win`.
    pub achievement: String,
    /// What a reader is told of it.
    pub title: String,
    /// The game.
    pub game_id: String,
    /// When.
    #[schemars(with = "String")]
    pub earned_at: Timestamp,
}

/// What to change of a profile.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeProfile {
    /// The name to address the user by.
    pub display_name: String,
}

/// A name that an address wants to be known by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NameClaim {
    /// The name.
    pub username: String,
    /// The address.
    pub email: String,
}

/// What a user is called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Named {
    /// The user.
    pub user_id: String,
    /// Their name.
    pub username: String,
}

pub(super) async fn me(cx: Cx) -> Result<Json<Profile>> {
    let user = cx.user()?;
    shown(&cx, &user).await.map(Json)
}

pub(super) async fn profile(cx: Cx, Path(user_id): Path<String>) -> Result<Json<Profile>> {
    limits::id("userId", &user_id)?;
    let mut profile = shown(&cx, &user_id).await?;
    if cx.user()? != *user_id {
        profile.email = None;
    }
    Ok(Json(profile))
}

async fn shown(cx: &Cx, user_id: &str) -> Result<Profile> {
    let mut reader = cx.read().await?;
    let profile = tables::profile(reader.conn(), user_id).await?;
    profile.ok_or_else(|| limits::unknown("user", user_id))
}

pub(super) async fn change(cx: Cx, Json(change): Json<ChangeProfile>) -> Result<Json<Profile>> {
    let user = cx.user()?;
    let name = limits::text("displayName", &change.display_name, DISPLAY_NAME_CHARS_MAX)?;
    let mut tx = cx.tx().await?;
    if !tables::rename(tx.conn(), &user, name).await? {
        return Err(limits::unknown("user", &user));
    }
    let profile = tables::profile(tx.conn(), &user).await?;
    tx.publish(ProfileUpdated {
        user_id: user.to_string(),
        display_name: name.to_owned(),
    })
    .await?;
    drop(tx);
    profile
        .map(Json)
        .ok_or_else(|| limits::unknown("user", &user))
}

/// A user's own wallets.
pub(super) async fn wallets(cx: Cx, Path(user_id): Path<String>) -> Result<Json<Vec<Wallet>>> {
    if cx.user()? != *user_id {
        let text = "a wallet is for its owner's eyes alone";
        let kind = ErrorKind::PermissionDenied;
        return Err(Error::new(kind, "wallet_private", text));
    }
    let wallets = cx.service(wallet::NAME)?;
    let found = wallets.get(format!("/users/{user_id}/wallets"));
    found.send().await.map(Json)
}

/// Takes a name for an address, which may take it again.
pub(super) async fn claim_name(cx: Cx, Json(claim): Json<NameClaim>) -> Result<Json<NameClaim>> {
    let mut tx = cx.tx().await?;
    if tables::claim_name(tx.conn(), &claim).await? {
        return Ok(Json(claim));
    }
    let text = "somebody has this name";
    Err(Error::conflict("username_taken", text).with("username", claim.username))
}

pub(super) async fn name(cx: Cx, Path(user_id): Path<String>) -> Result<Json<Named>> {
    limits::id("userId", &user_id)?;
    let mut reader = cx.read().await?;
    let username = tables::username(reader.conn(), &user_id).await?;
    let username = username.ok_or_else(|| limits::unknown("user", &user_id))?;
    Ok(Json(Named { user_id, username }))
}
