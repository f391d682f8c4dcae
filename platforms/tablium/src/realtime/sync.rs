//! What tables are told, from what has happened.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Event, Result, Timestamp};

use super::GAMES;
use super::chat::Said;
use super::rooms::{own, table};
use crate::events::{
    AchievementEarned, ChatSaid, GameChanged, GameCompleted, GameJoined, GameMoveMade, GameStarted,
};
use crate::games::Move;
use crate::view::GameView;

/// A game has changed: `game-updated`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Updated {
    /// The game.
    pub game_id: String,
    /// As it is now. Whoever has seen a higher version ignores it.
    pub state: GameView,
    /// The move that changed it.
    pub last_move: Option<LastMove>,
    /// When it was told.
    #[schemars(with = "String")]
    pub timestamp: Timestamp,
}

/// A move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastMove {
    /// Who made it.
    pub player_id: String,
    /// The move.
    pub move_data: Move,
}

impl Updated {
    pub(super) fn of(state: GameView, last_move: Option<LastMove>, timestamp: Timestamp) -> Self {
        Self {
            game_id: state.game_id.clone(),
            state,
            last_move,
            timestamp,
        }
    }
}

pub(super) async fn joined(cx: Cx, event: Event<GameJoined>) -> Result<()> {
    update(&cx, event.data.state, None)
}

pub(super) async fn started(cx: Cx, event: Event<GameStarted>) -> Result<()> {
    update(&cx, event.data.state, None)
}

pub(super) async fn moved(cx: Cx, event: Event<GameMoveMade>) -> Result<()> {
    let GameMoveMade {
        player_id,
        move_data,
        state,
        ..
    } = event.data;
    let last = LastMove {
        player_id,
        move_data,
    };
    update(&cx, state, Some(last))
}

pub(super) async fn changed(cx: Cx, event: Event<GameChanged>) -> Result<()> {
    update(&cx, event.data.state, None)
}

pub(super) async fn completed(cx: Cx, event: Event<GameCompleted>) -> Result<()> {
    update(&cx, event.data.state, None)
}

fn update(cx: &Cx, state: GameView, last_move: Option<LastMove>) -> Result<()> {
    let room = table(&state.game_id);
    let updated = Updated::of(state, last_move, cx.now());
    cx.namespace(GAMES)?.to(room).emit("game-updated", &updated)
}

/// Somebody has achieved something: they hear of it wherever they are.
pub(super) async fn earned(cx: Cx, event: Event<AchievementEarned>) -> Result<()> {
    let room = own(&event.data.user_id);
    cx.namespace(GAMES)?
        .to(room)
        .emit("achievement", &event.data)
}

pub(super) async fn said(cx: Cx, event: Event<ChatSaid>) -> Result<()> {
    let said = Said::of(event.data);
    let room = table(&said.game_id);
    cx.namespace(GAMES)?.to(room).emit("chat-message", &said)
}
