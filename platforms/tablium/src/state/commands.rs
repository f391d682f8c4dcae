//! What game-engine-service asks: tables are opened and joined, matches begin, or come to nothing. Each of it can be asked again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Error, Json, Path, Result};

use super::decide;
use super::game::{GameEvent, Player};
use super::tell::{answered, change, exists};
use crate::games::{Kind, Seat};
use crate::user::{self, Named};
use crate::view::GameView;
use crate::{Points, limits};

/// A table to open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewGame {
    /// The game's id.
    pub game_id: String,
    /// Which game is played.
    pub kind: Kind,
    /// Who opens it.
    pub host_id: String,
    /// Where they sit.
    pub host_seat: Seat,
    /// Who alone may join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opponent_id: Option<String>,
    /// What each plays for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stake: Option<Points>,
    /// How much time there is.
    pub clock: Clock,
    /// Only its players may see it.
    pub private: bool,
}

/// How much time each player has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Clock {
    /// To begin with.
    pub initial_ms: u64,
    /// More of it after each move.
    pub increment_ms: u64,
}

/// Who takes the other place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Join {
    /// The user.
    pub user_id: String,
}

/// They have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    /// What the two play together in the game.
    pub match_id: String,
    /// The game.
    pub state: GameView,
}

/// A match to begin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Start {
    /// The match.
    pub match_id: String,
}

/// Who has to give up a place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TurnAway {
    /// The match that can't begin.
    pub match_id: String,
    /// The user.
    pub user_id: String,
}

/// A match that comes to nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallOff {
    /// The match.
    pub match_id: String,
}

/// Opens a table. The same id again is the table that is there, if the same host opened it.
pub(super) async fn create(cx: Cx, Json(new): Json<NewGame>) -> Result<Json<GameView>> {
    limits::id("gameId", &new.game_id)?;
    let host = player(&cx, &new.host_id).await?;
    let (_, view) = change(&cx, &new.game_id, |game| {
        if game.version() > 0 {
            return same_host(&game.state().host_id, &new.host_id);
        }
        Ok(vec![GameEvent::Created {
            kind: new.kind,
            host: host.clone(),
            host_seat: new.host_seat,
            opponent: new.opponent_id.clone(),
            stake: new.stake,
            initial_ms: new.clock.initial_ms,
            increment_ms: new.clock.increment_ms,
            private: new.private,
        }])
    })
    .await?;
    Ok(Json(view))
}

fn same_host(there: &str, asks: &str) -> Result<Vec<GameEvent>> {
    if there == asks {
        return Ok(Vec::new());
    }
    Err(Error::conflict(
        "game_exists",
        "somebody else has opened this game",
    ))
}

pub(super) async fn join(
    cx: Cx,
    Path(game_id): Path<String>,
    Json(join): Json<Join>,
) -> Result<Json<Joined>> {
    limits::id("gameId", &game_id)?;
    let player = player(&cx, &join.user_id).await?;
    let (game, state) = change(&cx, &game_id, |game| {
        exists(game)?;
        decide::join(game.state(), player.clone(), (&game_id, game.version()))
    })
    .await?;
    let match_id = game.state().match_id.clone();
    let match_id = match_id.ok_or_else(|| Error::internal("a joined game has a match"))?;
    Ok(Json(Joined { match_id, state }))
}

pub(super) async fn turn_away(
    cx: Cx,
    Path(game_id): Path<String>,
    Json(asked): Json<TurnAway>,
) -> Result<Json<GameView>> {
    answered(&cx, &game_id, |game| {
        Ok(decide::turn_away(game, &asked.match_id, &asked.user_id))
    })
    .await
}

pub(super) async fn start(
    cx: Cx,
    Path(game_id): Path<String>,
    Json(asked): Json<Start>,
) -> Result<Json<GameView>> {
    let now = cx.now();
    answered(&cx, &game_id, |game| {
        decide::start(game, &asked.match_id, now)
    })
    .await
}

pub(super) async fn call_off(
    cx: Cx,
    Path(game_id): Path<String>,
    Json(asked): Json<CallOff>,
) -> Result<Json<GameView>> {
    answered(&cx, &game_id, |game| {
        Ok(decide::call_off(game, &asked.match_id))
    })
    .await
}

pub(super) async fn cancel(
    cx: Cx,
    Path(game_id): Path<String>,
    Json(asked): Json<Join>,
) -> Result<Json<GameView>> {
    limits::id("gameId", &game_id)?;
    answered(&cx, &game_id, |game| decide::cancel(game, &asked.user_id)).await
}

/// A user, by the name that user-service knows.
pub(super) async fn player(cx: &Cx, user_id: &str) -> Result<Player> {
    limits::id("userId", user_id)?;
    let users = cx.service(user::NAME)?;
    let name = users.get(format!("/internal/users/{user_id}/name"));
    let named: Named = name.send().await?;
    Ok(Player {
        user_id: named.user_id,
        username: named.username,
    })
}
