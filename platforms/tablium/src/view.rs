//! A game as everybody sees it: the page, the events, and whoever asks for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trunkline::{Error, Result, Timestamp};

use crate::Points;
use crate::games::{Kind, Move, Outcome, Seat};

/// A game at one of its versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GameView {
    /// The game.
    pub game_id: String,
    /// Which game is played.
    pub kind: Kind,
    /// How much has happened to it.
    pub version: u64,
    /// How it stands.
    pub status: Status,
    /// Who plays, whoever moves first first.
    pub players: Vec<PlayerView>,
    /// Whose turn it is.
    pub turn: Option<Seat>,
    /// What stands where, by the game's rules.
    pub board: Value,
    /// What can be played now.
    pub legal_moves: Vec<Move>,
    /// What was played.
    pub moves: Vec<MoveView>,
    /// The last of it.
    pub last_move: Option<Move>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What each plays for.
    pub stake: Option<Points>,
    /// How much time there is.
    pub clock: ClockView,
    /// Who has offered a draw.
    pub draw_offer: Option<Seat>,
    /// Only its players may see it.
    pub private: bool,
}

/// How a game stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// For a player, or for the stakes.
    #[default]
    Waiting,
    /// It is played.
    Active,
    /// It is over.
    Completed,
    /// It was called off.
    Cancelled,
}

impl Status {
    const ALL: [Self; 4] = [
        Self::Waiting,
        Self::Active,
        Self::Completed,
        Self::Cancelled,
    ];

    /// The one that is written so.
    pub(crate) fn of(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|known| known.name() == name);
        found.ok_or_else(|| Error::internal("the status of a game is known"))
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Active => "active",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A player at the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlayerView {
    /// The user.
    pub user_id: String,
    /// Their name.
    pub username: String,
    /// Their place.
    pub seat: Seat,
    /// What their clock showed when it was last stopped.
    pub clock_ms: u64,
}

/// A move that was played.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MoveView {
    /// In the game's notation.
    pub notation: String,
    /// By whom.
    pub by: Seat,
}

/// How much time a game has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClockView {
    /// What each begins with.
    pub initial_ms: u64,
    /// What each move gives back.
    pub increment_ms: u64,
    /// Since when the clock of whose turn it is runs.
    #[schemars(with = "Option<String>")]
    pub running_since: Option<Timestamp>,
}

impl GameView {
    /// Who sits there.
    pub fn player(&self, seat: Seat) -> Option<&PlayerView> {
        self.players.iter().find(|player| player.seat == seat)
    }

    /// Where a user sits.
    pub fn seat_of(&self, user_id: &str) -> Option<Seat> {
        let found = self.players.iter().find(|player| player.user_id == user_id);
        found.map(|player| player.seat)
    }
}
