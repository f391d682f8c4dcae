//! What everybody has played, for the leaderboard.

use trunkline::{Projection, Recorded, Result, Target};

use super::game::{Game, GameEvent, Player};
use crate::games::{Outcome, Reason, Seat};

/// The table `leaders`: a player a row.
#[derive(Debug, Clone, Copy)]
pub struct Leaderboard;

impl Projection for Leaderboard {
    type Aggregate = Game;
    const NAME: &'static str = "leaderboard";
    const TABLES: &'static [&'static str] = &["leaders"];
    const CREATE: &'static str = "\
        CREATE TABLE {leaders} (user_id TEXT PRIMARY KEY, username TEXT NOT NULL, \
        played BIGINT NOT NULL, won BIGINT NOT NULL, lost BIGINT NOT NULL, drawn BIGINT NOT NULL)";

    async fn apply(&self, event: &Recorded<GameEvent>, target: &mut Target<'_>) -> Result<()> {
        let GameEvent::Completed { outcome, players } = &event.event else {
            return Ok(());
        };
        if outcome.reason == Reason::Cancelled {
            return Ok(());
        }
        for (seat, player) in [Seat::First, Seat::Second].into_iter().zip(players) {
            count(*outcome, (seat, player), target).await?;
        }
        Ok(())
    }
}

async fn count(
    outcome: Outcome,
    (seat, player): (Seat, &Player),
    target: &mut Target<'_>,
) -> Result<()> {
    let (won, lost) = (
        outcome.winner == Some(seat),
        outcome.winner == Some(seat.other()),
    );
    let upsert = target.sql(
        "INSERT INTO {leaders} (user_id, username, played, won, lost, drawn) \
         VALUES ($1, $2, 1, $3, $4, $5) ON CONFLICT (user_id) DO UPDATE SET username = $2, \
         played = {leaders}.played + 1, won = {leaders}.won + $3, lost = {leaders}.lost + $4, \
         drawn = {leaders}.drawn + $5",
    );
    upsert
        .bind(&player.user_id)
        .bind(&player.username)
        .bind(i64::from(won))
        .bind(i64::from(lost))
        .bind(i64::from(outcome.winner.is_none()))
        .run(target.conn())
        .await?;
    Ok(())
}
