//! What the engine does about what is told.

use trunkline::{Cx, Event, Result};

use super::{MATCH, Match};
use crate::events::GameJoined;

/// Two have found each other: their match begins, once.
pub(super) async fn joined(cx: Cx, event: Event<GameJoined>) -> Result<()> {
    let joined = event.data;
    let players = joined.state.players.iter();
    let one = Match {
        match_id: joined.match_id,
        game_id: joined.game_id,
        players: players.map(|player| player.user_id.clone()).collect(),
        stake: joined.state.stake,
    };
    cx.start_saga(MATCH, &one.match_id, &one).await?;
    Ok(())
}
