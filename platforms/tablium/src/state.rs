//! game-state-service: every game as its events, and what they make of it.
//!
//! A game is an aggregate: it is created, joined, started and played to its end, and each of that is an event of its stream.
//! Whoever asks gets it as it is, or as it was at any version. The lobby and the leaderboard are projections.

mod commands;
mod decide;
mod events;
mod game;
mod http;
mod leaderboard;
mod lobby;
mod moves;
mod tell;

use trunkline::Service;

use crate::events::{
    FlagDue, GameChanged, GameCompleted, GameCreated, GameJoined, GameMoveMade, GameStarted,
};
use crate::user;

pub use commands::{CallOff, Clock, Join, Joined, NewGame, Start, TurnAway};
pub use events::Happened;
pub use game::{Game, GameEvent, Player};
pub use http::{Leader, Listed};
pub use leaderboard::Leaderboard;
pub use lobby::Lobby;
pub use moves::{Answer, Attended, MoveRequest, Role};

/// The service's name.
pub const NAME: &str = "game-state-service";

/// The service.
pub fn service() -> Service {
    let service = Service::new(NAME)
        .version("1.0.0")
        .calls_operation(user::NAME, "GET /internal/users/{user_id}/name")
        .publishes::<GameCreated>()
        .publishes::<GameJoined>()
        .publishes::<GameStarted>()
        .publishes::<GameMoveMade>()
        .publishes::<GameChanged>()
        .publishes::<GameCompleted>()
        .publishes::<FlagDue>()
        .projection(Lobby)
        .projection(Leaderboard)
        .on(moves::flag_due);
    asked(service)
        .post("/internal/games", commands::create)
        .post("/internal/games/{game_id}/join", commands::join)
        .post("/internal/games/{game_id}/turn-away", commands::turn_away)
        .post("/internal/games/{game_id}/start", commands::start)
        .post("/internal/games/{game_id}/call-off", commands::call_off)
        .post("/internal/games/{game_id}/cancel", commands::cancel)
        .post("/internal/games/{game_id}/moves", moves::play)
        .post("/internal/games/{game_id}/resign", moves::resign)
        .post("/internal/games/{game_id}/draw", moves::offer_draw)
        .post("/internal/games/{game_id}/draw/answer", moves::answer_draw)
}

/// What only reads.
fn asked(service: Service) -> Service {
    service
        .get("/api/v1/leaderboard", http::leaderboard)
        .get("/api/v1/games", http::list)
        .get("/api/v1/games/{game_id}", http::find)
        .get("/api/v1/games/{game_id}/events", events::list)
        .get("/internal/games/{game_id}", http::internal)
        .get("/internal/games/{game_id}/seat", moves::attend)
}
