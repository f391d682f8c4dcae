//! realtime-service: what players and spectators do and see while a game is played, by Socket.IO in the namespace `/games`.
//!
//! | from a client | |
//! |---|---|
//! | `join-game` a game's id | comes to a table, and is told the state and what was said lately |
//! | `leave-game` a game's id | leaves it |
//! | `game-move` `{gameId, move, version?}` | plays |
//! | `resign`, `offer-draw` a game's id or `{gameId}`, `answer-draw` `{gameId, accept}` | |
//! | `chat` `{gameId, text}` | says something to the table |
//!
//! What becomes of a game is told to its table from the events of game-state-service, never from who asked for it: everybody
//! sees what is true, in the order in which it happened.

mod chat;
mod play;
mod rooms;
mod sync;

use std::time::Duration;

use trunkline::realtime::Rate;
use trunkline::{Migration, Namespace, Service, Verifier};

use crate::events::ChatSaid;
use crate::state;

pub use chat::Said;
pub use rooms::{Presence, Table};
pub use sync::{LastMove, Updated};

/// The service's name.
pub const NAME: &str = "realtime-service";
/// The namespace.
pub const GAMES: &str = "/games";

/// Who was cut off for so long comes back as if nothing had happened.
const RECOVERED_WITHIN: Duration = Duration::from_secs(60);
const RECOVERED_PACKETS: usize = 5_000;
/// What a client may do at once, and in a second.
const RATE: Rate = Rate {
    burst: 30,
    per_second: 15,
};
/// Tables at which a client may be.
const TABLES_MAX: usize = 64;

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_chat",
    sql: include_str!("realtime/0001_chat.sql"),
}];

/// The service.
pub fn service(verifier: Verifier) -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .state(verifier)
        .migrations(MIGRATIONS)
        .calls_operation(state::NAME, "GET /internal/games/{game_id}/seat")
        .calls_operation(state::NAME, "POST /internal/games/{game_id}/moves")
        .calls_operation(state::NAME, "POST /internal/games/{game_id}/resign")
        .calls_operation(state::NAME, "POST /internal/games/{game_id}/draw")
        .calls_operation(state::NAME, "POST /internal/games/{game_id}/draw/answer")
        .publishes::<ChatSaid>()
        .namespace(games())
}

fn games() -> Namespace {
    sync::tells(Namespace::at(GAMES))
        .signed_in()
        .rate(RATE)
        // A player is in two rooms of a table, and everybody in one of their own.
        .rooms_max(2 * TABLES_MAX + 1)
        .recovers(RECOVERED_WITHIN, RECOVERED_PACKETS)
        .on_connect(rooms::connected)
        .on_disconnect(rooms::gone)
        .on("join-game", rooms::join)
        .on("leave-game", rooms::leave)
        .on("game-move", play::make_move)
        .on("resign", play::resign)
        .on("offer-draw", play::offer_draw)
        .on("answer-draw", play::answer_draw)
        .on("chat", chat::say)
}
