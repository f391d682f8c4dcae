//! What players do in a game that is played.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{ByteString, Cx, Error, Event, Json, Path, Recorded, Result};

use super::commands;
use super::decide;
use super::game::{Game, GameEvent};
use super::http::visible;
use super::tell::{answered, change, exists};
use crate::events::FlagDue;
use crate::games::Move;
use crate::limits;
use crate::view::GameView;

/// The code of the error of a move for a version after which somebody has moved.
const STALE: &str = "stale_move";
/// Events after a version among which the move that followed is looked for: draws are offered and declined between moves.
const EVENTS_BETWEEN_MAX: usize = 100;

/// A move, as a player asks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MoveRequest {
    /// What to play.
    pub r#move: Move,
    /// The version of the game that the player has seen. The same move for the same version is made once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// A player's answer to an offered draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Whether it is a draw.
    pub accept: bool,
}

/// A game as somebody comes to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attended {
    /// Who comes.
    pub user_id: String,
    /// Their name.
    pub username: String,
    /// What they are there.
    pub role: Role,
    /// The game.
    pub state: GameView,
}

/// What somebody is at a game.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// They play it.
    Player,
    /// They watch it.
    Spectator,
}

/// A game as the user comes to it, if they may see it.
pub(super) async fn attend(cx: Cx, Path(game_id): Path<String>) -> Result<Json<Attended>> {
    let user = cx.user()?;
    let game = visible(&cx, &game_id, None).await?;
    let known = game.state().seat_of(&user);
    let known = known.and_then(|seat| game.state().sitting(seat));
    let role = known.map_or(Role::Spectator, |_| Role::Player);
    let player = match known {
        Some(sitting) => sitting.player.clone(),
        None => commands::player(&cx, &user).await?,
    };
    Ok(Json(Attended {
        user_id: player.user_id,
        username: player.username,
        role,
        state: game.state().view(&game_id, game.version()),
    }))
}

/// Plays a move. One that was made before is answered as it was then.
pub(super) async fn play(
    cx: Cx,
    Path(game_id): Path<String>,
    Json(asked): Json<MoveRequest>,
) -> Result<Json<GameView>> {
    limits::id("gameId", &game_id)?;
    let user = cx.user()?;
    let seen = moves_seen(&cx, &game_id, asked.version).await?;
    let now = cx.now();
    let played = change(&cx, &game_id, |game| {
        exists(game)?;
        let moves = game.state().position.moves().len();
        if seen.is_some_and(|seen| seen != moves) {
            return Err(stale(game.version()));
        }
        decide::play(game.state(), (&user, &asked.r#move), now)
    });
    match played.await {
        Ok((_, view)) => Ok(Json(view)),
        Err(error) if error.code() == STALE => {
            let before = made_before(&cx, &game_id, (&user, &asked)).await?;
            before.map(Json).ok_or(error)
        }
        Err(error) => Err(error),
    }
}

/// How many moves there were at the version that a player has seen.
async fn moves_seen(cx: &Cx, game_id: &str, version: Option<u64>) -> Result<Option<usize>> {
    let Some(version) = version.filter(|version| *version > 0) else {
        return Ok(None);
    };
    let seen = cx.aggregates::<Game>().at_version(game_id, version).await?;
    Ok(Some(seen.state().position.moves().len()))
}

/// The game right after the move that followed the version the player has seen, if it was this one.
async fn made_before(
    cx: &Cx,
    game_id: &str,
    (user, asked): (&str, &MoveRequest),
) -> Result<Option<GameView>> {
    let games = cx.aggregates::<Game>();
    let after = asked.version.unwrap_or(0);
    let events = games.events(game_id, after, EVENTS_BETWEEN_MAX).await?;
    let is_move = |event: &&Recorded<GameEvent>| matches!(event.event, GameEvent::Moved { .. });
    let Some(made) = events.iter().find(is_move) else {
        return Ok(None);
    };
    let then = games.at_version(game_id, made.version).await?;
    let by_same = matches!(&made.event, GameEvent::Moved { by, played, .. }
        if then.state().seat_of(user) == Some(*by) && *played == asked.r#move);
    if !by_same {
        return Ok(None);
    }
    // A move that ends the game is one change with its end.
    let is_last = then.state().position.outcome().is_some();
    let version = made.version + u64::from(is_last);
    let then = games.at_version(game_id, version).await?;
    Ok(Some(then.state().view(game_id, version)))
}

fn stale(version: u64) -> Error {
    let text = "the game has gone on since this version";
    Error::conflict(STALE, text).with("version", version)
}

pub(super) async fn resign(cx: Cx, Path(game_id): Path<String>) -> Result<Json<GameView>> {
    let user = acting(&cx, &game_id)?;
    answered(&cx, &game_id, |game| decide::resign(game, &user)).await
}

pub(super) async fn offer_draw(cx: Cx, Path(game_id): Path<String>) -> Result<Json<GameView>> {
    let user = acting(&cx, &game_id)?;
    answered(&cx, &game_id, |game| decide::offer_draw(game, &user)).await
}

pub(super) async fn answer_draw(
    cx: Cx,
    Path(game_id): Path<String>,
    Json(answer): Json<Answer>,
) -> Result<Json<GameView>> {
    let user = acting(&cx, &game_id)?;
    answered(&cx, &game_id, |game| {
        decide::answer_draw(game, &user, answer.accept)
    })
    .await
}

fn acting(cx: &Cx, game_id: &str) -> Result<ByteString> {
    limits::id("gameId", game_id)?;
    cx.user()
}

/// A clock was to run out by now: whoever has not moved since loses, or nobody wins.
pub(super) async fn flag_due(cx: Cx, event: Event<FlagDue>) -> Result<()> {
    let FlagDue {
        game_id,
        running_since,
    } = event.data;
    let now = cx.now();
    let flagged = change(&cx, &game_id, |game| {
        Ok(decide::flag(game.state(), running_since, now))
    });
    flagged.await.map(drop)
}
