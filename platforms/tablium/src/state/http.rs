//! Games as they are asked for and shown.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Error, Json, Loaded, Path, Query, Result, Timestamp, sql};

use super::game::Game;
use super::lobby;
use super::tell::exists;
use crate::Points;
use crate::games::Kind;
use crate::limits::{self, PAGE_MAX};
use crate::view::{GameView, PlayerView, Status};

/// A game in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// The game.
    pub game_id: String,
    /// Which game is played.
    pub kind: Kind,
    /// How it stands.
    pub status: Status,
    /// Who plays.
    pub players: Vec<PlayerView>,
    /// What each plays for.
    pub stake: Option<Points>,
    /// How much time there is.
    pub clock: super::Clock,
    /// Only its players may see it.
    pub private: bool,
    /// When it was opened.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
}

/// A place in the leaderboard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Leader {
    /// The user.
    pub user_id: String,
    /// Their name.
    pub username: String,
    /// Three for a win, one for a draw.
    pub score: u32,
    /// Games.
    pub played: u32,
    /// Those won.
    pub won: u32,
    /// Those lost.
    pub lost: u32,
    /// Those that nobody won.
    pub drawn: u32,
}

/// Which games to list.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Only those that stand so.
    #[serde(default)]
    status: Option<Status>,
}

/// At which version to look.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct At {
    /// The newest, if it is not said.
    #[serde(default)]
    version: Option<u64>,
}

/// The newest games that everybody may see, and the user's own.
pub(super) async fn list(cx: Cx, Query(which): Query<Which>) -> Result<Json<Vec<Listed>>> {
    let user = cx.user()?;
    let mut reader = cx.read().await?;
    lobby::list(reader.conn(), &user, which.status)
        .await
        .map(Json)
}

pub(super) async fn find(
    cx: Cx,
    Path(game_id): Path<String>,
    Query(at): Query<At>,
) -> Result<Json<GameView>> {
    let game = visible(&cx, &game_id, at.version).await?;
    Ok(Json(game.state().view(&game_id, game.version())))
}

/// A game as another service asks for it, whoever may see it.
pub(super) async fn internal(cx: Cx, Path(game_id): Path<String>) -> Result<Json<GameView>> {
    limits::id("gameId", &game_id)?;
    let game = cx.aggregates::<Game>().load(&game_id).await?;
    exists(&game)?;
    Ok(Json(game.state().view(&game_id, game.version())))
}

/// A game that the user may see. One that they may not is as unknown as one that is not there.
pub(super) async fn visible(cx: &Cx, game_id: &str, version: Option<u64>) -> Result<Loaded<Game>> {
    limits::id("gameId", game_id)?;
    let user = cx.user()?;
    let games = cx.aggregates::<Game>();
    let now = games.load(game_id).await?;
    exists(&now)?;
    if !now.state().is_visible_to(&user) {
        return Err(limits::unknown("game", game_id));
    }
    match version {
        None => Ok(now),
        Some(0) => Err(Error::invalid("version_invalid", "versions count from 1")),
        Some(version) => games.at_version(game_id, version).await,
    }
}

/// Whoever has the most points, the first first.
pub(super) async fn leaderboard(cx: Cx) -> Result<Json<Vec<Leader>>> {
    let mut reader = cx.read().await?;
    let text = "SELECT user_id, username, played, won, lost, drawn FROM leaders \
                ORDER BY won * 3 + drawn DESC, played, username LIMIT $1";
    let rows = sql(text)
        .bind(PAGE_MAX)
        .all::<(String, String, i64, i64, i64, i64)>(reader.conn())
        .await?;
    let count = |count: i64| u32::try_from(count).unwrap_or(u32::MAX);
    let leaders = rows
        .into_iter()
        .map(|(user_id, username, played, won, lost, drawn)| Leader {
            user_id,
            username,
            score: count(won.saturating_mul(3).saturating_add(drawn)),
            played: count(played),
            won: count(won),
            lost: count(lost),
            drawn: count(drawn),
        });
    Ok(Json(leaders.collect()))
}
