//! What tables are told, from what has happened.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::realtime::Tell;
use trunkline::{Event, Namespace, Result, Timestamp};

use super::chat::Said;
use super::rooms::{own, table};
use crate::events::{
    AchievementEarned, ChatSaid, GameChanged, GameCompleted, GameJoined, GameMoveMade, GameStarted,
};
use crate::games::Move;
use crate::view::GameView;

/// What a change of a game is called.
pub(super) const UPDATED: &str = "game-updated";

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

/// Whatever happens to a game is told to its table, in the order in which it happened.
pub(super) fn tells(namespace: Namespace) -> Namespace {
    namespace
        .tells_by(UPDATED, |event: &Event<GameJoined>| {
            update(event, &event.data.state)
        })
        .tells_by(UPDATED, |event: &Event<GameStarted>| {
            update(event, &event.data.state)
        })
        .tells_by(UPDATED, moved)
        .tells_by(UPDATED, |event: &Event<GameChanged>| {
            update(event, &event.data.state)
        })
        .tells_by(UPDATED, |event: &Event<GameCompleted>| {
            update(event, &event.data.state)
        })
        .tells_by("achievement", |event: &Event<AchievementEarned>| {
            Ok(Tell::to(own(&event.data.user_id)))
        })
        .tells_by("chat-message", |event: &Event<ChatSaid>| {
            Tell::to(table(&event.data.game_id)).with(&Said::of(event.data.clone()))
        })
}

fn update<T>(event: &Event<T>, state: &GameView) -> Result<Tell> {
    let updated = Updated::of(state.clone(), None, event.envelope.time);
    Tell::to(table(&state.game_id)).with(&updated)
}

fn moved(event: &Event<GameMoveMade>) -> Result<Tell> {
    let made = &event.data;
    let last = LastMove {
        player_id: made.player_id.clone(),
        move_data: made.move_data.clone(),
    };
    let updated = Updated::of(made.state.clone(), Some(last), event.envelope.time);
    Tell::to(table(&made.game_id)).with(&updated)
}
