//! Tells the others what happened to a game, in the transaction that notes it.

use std::time::Duration;

use trunkline::{Aggregate as _, Cx, Json, Loaded, Result};

use super::decide;
use super::game::{Game, GameEvent};
use crate::events::{
    FlagDue, GameChanged, GameCompleted, GameCreated, GameJoined, GameMoveMade, GameStarted,
};
use crate::view::GameView;

/// Later than a flag can fall by the clocks of two processes that differ a little.
const FLAG_AFTER: Duration = Duration::from_millis(1);

/// Changes a game, tells of it, and gives it as it is then.
pub(super) async fn change(
    cx: &Cx,
    game_id: &str,
    mut decide: impl FnMut(&Loaded<Game>) -> Result<Vec<GameEvent>> + Send,
) -> Result<(Loaded<Game>, GameView)> {
    let mut happened = Vec::new();
    let game = cx
        .change::<Game>(game_id, |game| {
            happened = decide(game)?;
            Ok(happened.clone())
        })
        .await?;
    let view = game.state().view(game_id, game.version());
    for event in &happened {
        tell(cx, event, game.state(), &view).await?;
    }
    watch_clock(cx, &happened, game.state(), &view).await?;
    Ok((game, view))
}

/// Changes a game that there is, and answers with it as it is then.
pub(super) async fn answered(
    cx: &Cx,
    game_id: &str,
    mut decide: impl FnMut(&Game) -> Result<Vec<GameEvent>> + Send,
) -> Result<Json<GameView>> {
    let changed = change(cx, game_id, |game| {
        exists(game)?;
        decide(game.state())
    });
    Ok(Json(changed.await?.1))
}

/// A stream without an event is no game.
pub(super) fn exists(game: &Loaded<Game>) -> Result<()> {
    if game.version() > 0 {
        return Ok(());
    }
    Err(crate::limits::unknown(Game::KIND, game.id()))
}

async fn tell(cx: &Cx, event: &GameEvent, game: &Game, view: &GameView) -> Result<()> {
    let (game_id, state) = (view.game_id.clone(), view.clone());
    match event {
        GameEvent::Created { .. } => cx.publish(GameCreated { game_id, state }).await,
        GameEvent::Joined { match_id, .. } => {
            let match_id = match_id.clone();
            let joined = GameJoined {
                game_id,
                match_id,
                state,
            };
            cx.publish(joined).await
        }
        GameEvent::Started { .. } => cx.publish(GameStarted { game_id, state }).await,
        GameEvent::Moved { by, played, .. } => {
            let player = view.player(*by);
            let made = GameMoveMade {
                game_id,
                player_id: player.map_or_else(String::new, |player| player.user_id.clone()),
                move_data: played.clone(),
                state,
            };
            cx.publish(made).await
        }
        GameEvent::TurnedAway { .. }
        | GameEvent::DrawOffered { .. }
        | GameEvent::DrawDeclined { .. } => cx.publish(GameChanged { game_id, state }).await,
        // What follows of them is that the game is over.
        GameEvent::Resigned { .. } | GameEvent::TimedOut { .. } => Ok(()),
        GameEvent::Completed { outcome, .. } => {
            let winner = outcome.winner.and_then(|seat| view.player(seat));
            let completed = GameCompleted {
                game_id,
                match_id: game.match_id.clone(),
                winner_id: winner.map(|player| player.user_id.clone()),
                state,
            };
            cx.publish(completed).await
        }
    }
}

/// A clock that was set running is looked at when it will have run out.
async fn watch_clock(cx: &Cx, happened: &[GameEvent], game: &Game, view: &GameView) -> Result<()> {
    let is_set =
        |event: &GameEvent| matches!(event, GameEvent::Started { .. } | GameEvent::Moved { .. });
    let (Some(turn), Some(since)) = (view.turn, view.clock.running_since) else {
        return Ok(());
    };
    if !happened.iter().any(is_set) {
        return Ok(());
    }
    let left = decide::left_ms(game, turn, since);
    let due = FlagDue {
        game_id: view.game_id.clone(),
        running_since: since,
    };
    cx.publish_in(Duration::from_millis(left) + FLAG_AFTER, due)
        .await
}
