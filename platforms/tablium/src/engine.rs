//! game-engine-service: brings players together, and carries each match from its stakes to its settlement, as a saga.

mod http;
mod matches;
mod sync;

use trunkline::{SagaDefinition, Service};

use crate::events::{
    GameCompleted, HoldDecided, HoldRequested, MatchSettled, ReleaseRequested, SettlementRequested,
};
use crate::state;

pub use http::{ClockChoice, OpenGame};
pub use matches::Match;

/// The service's name.
pub const NAME: &str = "game-engine-service";
/// The saga of a match.
pub const MATCH: &str = "match";

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .calls_operation(state::NAME, "POST /internal/games")
        .calls_operation(state::NAME, "GET /internal/games/{game_id}")
        .calls_operation(state::NAME, "POST /internal/games/{game_id}/join")
        .calls_operation(state::NAME, "POST /internal/games/{game_id}/cancel")
        .calls_operation(state::NAME, "POST /internal/games/{game_id}/start")
        .calls_operation(state::NAME, "POST /internal/games/{game_id}/turn-away")
        .calls_operation(state::NAME, "POST /internal/games/{game_id}/call-off")
        .publishes::<HoldRequested>()
        .publishes::<ReleaseRequested>()
        .publishes::<SettlementRequested>()
        .post("/api/v1/games", http::open)
        .post("/api/v1/games/{game_id}/join", http::join)
        .post("/api/v1/games/{game_id}/cancel", http::cancel)
        .post("/api/v1/games/{game_id}/rematch", http::rematch)
        .on(sync::joined)
        .saga(
            SagaDefinition::named(MATCH)
                .version(1, matches::play)
                .wakes(|decided: &HoldDecided| decided.match_id.clone())
                .wakes(|over: &GameCompleted| over.match_id.clone().unwrap_or_default())
                .wakes(|settled: &MatchSettled| settled.match_id.clone())
                .failed(matches::failed),
        )
}
