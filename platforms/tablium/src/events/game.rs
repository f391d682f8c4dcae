//! What becomes of games. Whoever hears of it is given the whole state: nobody has to ask for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Event, Timestamp};

use crate::games::Move;
use crate::view::GameView;

/// A table is open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "game.created", version = "1.0", topic = "games", key = game_id)]
#[serde(rename_all = "camelCase")]
pub struct GameCreated {
    /// The game.
    pub game_id: String,
    /// The game, as it is now.
    pub state: GameView,
}

/// Both places are taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "game.joined", version = "1.0", topic = "games", key = game_id)]
#[serde(rename_all = "camelCase")]
pub struct GameJoined {
    /// The game.
    pub game_id: String,
    /// What these two play together in it.
    pub match_id: String,
    /// The game, as it is now.
    pub state: GameView,
}

/// The stakes are set aside, and the clock runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "game.started", version = "1.0", topic = "games", key = game_id)]
#[serde(rename_all = "camelCase")]
pub struct GameStarted {
    /// The game.
    pub game_id: String,
    /// The game, as it is now.
    pub state: GameView,
}

/// A move was played.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "game.move.made", version = "1.0", topic = "games", key = game_id)]
#[serde(rename_all = "camelCase")]
pub struct GameMoveMade {
    /// The game.
    pub game_id: String,
    /// By whom.
    pub player_id: String,
    /// The move.
    pub move_data: Move,
    /// The game, as it is now.
    pub state: GameView,
}

/// Something else of a game changed: a draw was offered or declined, a player left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "game.changed", version = "1.0", topic = "games", key = game_id)]
#[serde(rename_all = "camelCase")]
pub struct GameChanged {
    /// The game.
    pub game_id: String,
    /// The game, as it is now.
    pub state: GameView,
}

/// A game is over, or was called off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "game.completed", version = "1.0", topic = "games", key = game_id)]
#[serde(rename_all = "camelCase")]
pub struct GameCompleted {
    /// The game.
    pub game_id: String,
    /// What its players played together in it; none where nobody had joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_id: Option<String>,
    /// Who won.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub winner_id: Option<String>,
    /// The game, as it is now.
    pub state: GameView,
}

/// Somebody's time is up, unless they have moved since.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "game.flag.due", version = "1.0", topic = "game-clocks", key = game_id, kind = command)]
#[serde(rename_all = "camelCase")]
pub struct FlagDue {
    /// The game.
    pub game_id: String,
    /// Since when the clock ran when this was set.
    #[schemars(with = "String")]
    pub running_since: Timestamp,
}

/// Somebody said something at a table. It is told to who is there, and kept elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "game.chat.said", version = "1.0", topic = "chat", key = game_id, priority = low)]
#[serde(rename_all = "camelCase")]
pub struct ChatSaid {
    /// The message.
    pub message_id: String,
    /// The game.
    pub game_id: String,
    /// Who said it.
    pub user_id: String,
    /// Their name.
    pub username: String,
    /// What.
    pub text: String,
    /// When.
    #[schemars(with = "String")]
    pub timestamp: Timestamp,
}
