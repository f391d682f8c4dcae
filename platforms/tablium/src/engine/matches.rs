//! The saga of a match: the stakes are set aside, the game is started, and played; then whoever won gets them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trunkline::saga::Retries;
use trunkline::{Cx, Error, Result, Saga};

use crate::Points;
use crate::events::{
    GameCompleted, HoldDecided, HoldRequested, MatchSettled, ReleaseRequested, SettlementRequested,
};
use crate::games::Reason;
use crate::state::{self, CallOff, Start, TurnAway};
use crate::view::GameView;

/// What two play together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Match {
    /// Its id.
    pub match_id: String,
    /// The game.
    pub game_id: String,
    /// Who plays.
    pub players: Vec<String>,
    /// What each plays for.
    pub stake: Option<Points>,
}

/// The wallets answer at once; who is away for so long keeps nobody at a table.
const HELD_WITHIN: Duration = Duration::from_secs(120);
/// Longer than two clocks of three hours with all that moves give back.
const PLAYED_WITHIN: Duration = Duration::from_secs(7 * 24 * 3_600);
/// The wallets settle what they are told, however late.
const SETTLED_WITHIN: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How a service that is away is waited for: for about ten minutes.
const PATIENT: Retries = Retries {
    attempts_max: 25,
    first: Duration::from_millis(250),
    longest: Duration::from_secs(30),
};

/// Holds, starts, waits for the end, and settles.
pub(super) async fn play(saga: Saga, one: Match) -> Result<()> {
    if let Some(stake) = one.stake {
        hold(&saga, &one, stake).await?;
    }
    start(&saga, &one).await?;
    let over: Option<GameCompleted> = saga.event(PLAYED_WITHIN).await?;
    let over = over.ok_or_else(|| Error::conflict("match_expired", "nobody plays any more"))?;
    let outcome = over.state.outcome;
    if outcome.is_none_or(|outcome| outcome.reason == Reason::Cancelled) {
        return Err(Error::conflict(
            "match_cancelled",
            "the game was called off",
        ));
    }
    if one.stake.is_some() {
        settle(&saga, &one, over.winner_id).await?;
    }
    Ok(())
}

/// It has come to nothing: the game is called off, unless it has another match by now, or was played to its end.
pub(super) async fn failed(cx: Cx, one: Match, _: Error) -> Result<()> {
    let (path, asked) = calling_off(&one);
    post::<GameView>(cx, path, asked).await.map(drop)
}

async fn hold(saga: &Saga, one: &Match, stake: Points) -> Result<()> {
    let asked = HoldRequested {
        match_id: one.match_id.clone(),
        players: one.players.clone(),
        stake,
    };
    let match_id = one.match_id.clone();
    saga.step("hold")
        .input(&asked)
        .undo(move |cx: Cx, _| {
            let match_id = match_id.clone();
            async move { cx.publish(ReleaseRequested { match_id }).await }
        })
        .run(move |cx: Cx| {
            let asked = asked.clone();
            async move { cx.publish(asked).await }
        })
        .await?;
    let decided: Option<HoldDecided> = saga.event(HELD_WITHIN).await?;
    let lacking = match decided {
        Some(decided) if decided.held => return Ok(()),
        Some(decided) => decided.lacking,
        None => None,
    };
    if let Some(user_id) = lacking {
        turn_away(saga, one, user_id).await?;
    }
    Err(Error::conflict(
        "stake_lacking",
        "the stakes can't be set aside",
    ))
}

/// Who can't pay has to go, and somebody else may come. Who opened the game stays, and it is called off.
async fn turn_away(saga: &Saga, one: &Match, user_id: String) -> Result<GameView> {
    let path = format!("/internal/games/{}/turn-away", one.game_id);
    let asked = TurnAway {
        match_id: one.match_id.clone(),
        user_id,
    };
    saga.step("turn-away")
        .retries(PATIENT)
        .run(move |cx| post(cx, path.clone(), asked.clone()))
        .await
}

async fn start(saga: &Saga, one: &Match) -> Result<GameView> {
    let path = format!("/internal/games/{}/start", one.game_id);
    let asked = Start {
        match_id: one.match_id.clone(),
    };
    let (undo_path, off) = calling_off(one);
    saga.step("start")
        .retries(PATIENT)
        .undo(move |cx, _| {
            let called_off = post::<GameView>(cx, undo_path.clone(), off.clone());
            async move { called_off.await.map(drop) }
        })
        .run(move |cx| post(cx, path.clone(), asked.clone()))
        .await
}

fn calling_off(one: &Match) -> (String, CallOff) {
    let path = format!("/internal/games/{}/call-off", one.game_id);
    let match_id = one.match_id.clone();
    (path, CallOff { match_id })
}

/// From here on nothing is taken back: the wallets do what they were told.
async fn settle(saga: &Saga, one: &Match, winner_id: Option<String>) -> Result<()> {
    let asked = SettlementRequested {
        match_id: one.match_id.clone(),
        winner_id,
    };
    saga.step("settle")
        .input(&asked)
        .run(move |cx: Cx| {
            let asked = asked.clone();
            async move { cx.publish(asked).await }
        })
        .await?;
    let settled: Option<MatchSettled> = saga.event(SETTLED_WITHIN).await?;
    if settled.is_none() {
        tracing::error!(one.match_id, "the wallets have not told of a settlement");
    }
    Ok(())
}

async fn post<T: for<'de> Deserialize<'de>>(
    cx: Cx,
    path: String,
    body: impl Serialize,
) -> Result<T> {
    let games = cx.service(state::NAME)?;
    games.post(path).json(&body).idempotent().send().await
}
