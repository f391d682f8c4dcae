//! What user-service does about what others tell.

use trunkline::{Cx, Event, Result};

use super::achievements::{Achievement, Played};
use super::tables;
use crate::events::{AchievementEarned, GameCompleted, UserRegistered};
use crate::games::{Reason, Seat};
use crate::wallet::{self, Wallet};

/// Somebody opened an account: they have a profile, and a wallet, which wallet-service makes once however often it is asked.
pub(super) async fn registered(cx: Cx, event: Event<UserRegistered>) -> Result<()> {
    let wallets = cx.service(wallet::NAME)?;
    let path = format!("/users/{}/wallets", event.data.user_id);
    let _: Vec<Wallet> = wallets.post(path).idempotent().send().await?;
    let mut tx = cx.tx().await?;
    tables::insert(tx.conn(), &event.data, cx.now()).await
}

/// A game is over: it counts for both, once.
pub(super) async fn completed(cx: Cx, event: Event<GameCompleted>) -> Result<()> {
    let game = event.data;
    if game
        .state
        .outcome
        .is_none_or(|outcome| outcome.reason == Reason::Cancelled)
    {
        return Ok(());
    }
    for seat in [Seat::First, Seat::Second] {
        count(&cx, &game, seat).await?;
    }
    Ok(())
}

async fn count(cx: &Cx, game: &GameCompleted, seat: Seat) -> Result<()> {
    let Some(outcome) = game.state.outcome else {
        return Ok(());
    };
    let Some(user) = game.state.player(seat).map(|player| player.user_id.clone()) else {
        return Ok(());
    };
    let result = match outcome.winner {
        None => "drawn",
        Some(winner) if winner == seat => "won",
        Some(_) => "lost",
    };
    let what = (game.state.kind.name(), result);
    let mut tx = cx.tx().await?;
    if !tables::add_result(tx.conn(), (&user, &game.game_id), what).await? {
        return Ok(());
    }
    let won = outcome.winner == Some(seat);
    let played = Played {
        kind: game.state.kind,
        won,
        reason: outcome.reason,
        moves: u32::try_from(game.state.moves.len()).unwrap_or(u32::MAX),
        wins_running: tables::streak(tx.conn(), &user, won).await?,
        games: tables::statistics(tx.conn(), &user).await?.played,
    };
    for achievement in Achievement::of(played) {
        if tables::earn(tx.conn(), (&user, &game.game_id), achievement, cx.now()).await? {
            tx.publish(AchievementEarned {
                user_id: user.clone(),
                achievement: achievement.name().to_owned(),
                title: achievement.title().to_owned(),
                game_id: game.game_id.clone(),
            })
            .await?;
        }
    }
    Ok(())
}
