//! Tables as players open, join and close them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Created, Cx, Error, Json, Path, Result};

use crate::Points;
use crate::games::{Kind, Seat};
use crate::limits::{self, INCREMENT_SECONDS_MAX, MINUTES, STAKE_MAX};
use crate::state::{self, Clock, Join, Joined, NewGame};
use crate::view::{GameView, Status};

/// A game to open.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpenGame {
    /// Which game is played.
    pub kind: Kind,
    /// What each plays for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stake: Option<Points>,
    /// How much time there is.
    pub clock: ClockChoice,
    /// Only its players may see it.
    #[serde(default)]
    pub private: bool,
    /// Who alone may join: a challenge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opponent: Option<String>,
}

/// How much time each player has.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClockChoice {
    /// To begin with.
    pub minutes: u32,
    /// More of it after each move.
    #[serde(default)]
    pub increment_seconds: u32,
}

/// Opens a table. Whoever opens it moves first.
pub(super) async fn open(cx: Cx, Json(open): Json<OpenGame>) -> Result<Created<GameView>> {
    let host_id = cx.user()?.to_string();
    if let Some(opponent) = &open.opponent {
        limits::id("opponent", opponent)?;
        if *opponent == host_id {
            let text = "nobody plays against themself";
            return Err(Error::invalid("opponent_self", text));
        }
    }
    let new = NewGame {
        game_id: format!("game_{}", cx.stable_id().simple()),
        kind: open.kind,
        host_id,
        host_seat: Seat::First,
        opponent_id: open.opponent,
        stake: open.stake.map(checked_stake).transpose()?,
        clock: checked_clock(open.clock)?,
        private: open.private,
    };
    let view = create(&cx, &new).await?;
    Ok(Created::at(place(&view), view))
}

fn checked_stake(stake: Points) -> Result<Points> {
    if stake > Points::of_minor(0) && stake <= STAKE_MAX {
        return Ok(stake);
    }
    let text = format!("a stake is more than nothing, and at most {STAKE_MAX}");
    Err(Error::invalid("stake_invalid", text).with("found", stake))
}

fn checked_clock(clock: ClockChoice) -> Result<Clock> {
    let ClockChoice {
        minutes,
        increment_seconds,
    } = clock;
    if MINUTES.contains(&minutes) && increment_seconds <= INCREMENT_SECONDS_MAX {
        return Ok(Clock {
            initial_ms: u64::from(minutes) * 60_000,
            increment_ms: u64::from(increment_seconds) * 1_000,
        });
    }
    let (least, most) = (MINUTES.start(), MINUTES.end());
    let text = format!(
        "a clock has {least} to {most} minutes, and gives back 0 to {INCREMENT_SECONDS_MAX} seconds"
    );
    Err(Error::invalid("clock_invalid", text))
}

/// Takes the other place: the match begins as soon as the stakes are set aside.
pub(super) async fn join(cx: Cx, Path(game_id): Path<String>) -> Result<Json<GameView>> {
    let user_id = cx.user()?.to_string();
    take_place(&cx, &game_id, user_id).await.map(Json)
}

async fn take_place(cx: &Cx, game_id: &str, user_id: String) -> Result<GameView> {
    limits::id("gameId", game_id)?;
    let games = cx.service(state::NAME)?;
    let join = games.post(format!("/internal/games/{game_id}/join"));
    let joined: Joined = join.json(&Join { user_id }).idempotent().send().await?;
    Ok(joined.state)
}

/// Closes a table that nobody has joined.
pub(super) async fn cancel(cx: Cx, Path(game_id): Path<String>) -> Result<Json<GameView>> {
    limits::id("gameId", &game_id)?;
    let user_id = cx.user()?.to_string();
    let games = cx.service(state::NAME)?;
    let cancel = games.post(format!("/internal/games/{game_id}/cancel"));
    let view = cancel.json(&Join { user_id }).idempotent().send().await?;
    Ok(Json(view))
}

/// The same again with the places exchanged: who asks first opens it for the other, who asks second joins.
pub(super) async fn rematch(cx: Cx, Path(game_id): Path<String>) -> Result<Json<GameView>> {
    limits::id("gameId", &game_id)?;
    let user = cx.user()?;
    let games = cx.service(state::NAME)?;
    let path = format!("/internal/games/{game_id}");
    let before: GameView = games.get(path).send().await?;
    let seat = before.seat_of(&user);
    let seat = seat.ok_or_else(|| limits::unknown("game", &game_id))?;
    let opponent = before.player(seat.other());
    let Some(opponent) = opponent.filter(|_| before.status == Status::Completed) else {
        let text = "a game that was played to its end can be played again";
        return Err(Error::conflict("game_not_over", text));
    };
    let next = next_id(&game_id)?;
    let new = NewGame {
        game_id: next.clone(),
        kind: before.kind,
        host_id: user.to_string(),
        host_seat: seat.other(),
        opponent_id: Some(opponent.user_id.clone()),
        stake: before.stake,
        clock: Clock {
            initial_ms: before.clock.initial_ms,
            increment_ms: before.clock.increment_ms,
        },
        private: before.private,
    };
    match create(&cx, &new).await {
        Err(error) if error.code() == "game_exists" => {
            take_place(&cx, &next, user.to_string()).await.map(Json)
        }
        opened => opened.map(Json),
    }
}

/// The id of the game after this one: `game_1`, `game_1.r1`, `game_1.r2`.
fn next_id(game_id: &str) -> Result<String> {
    let (first, number) = match game_id.rsplit_once(".r") {
        Some((first, number)) => (first, number.parse::<u32>().unwrap_or(0)),
        None => (game_id, 0),
    };
    let next = format!("{first}.r{}", number.saturating_add(1));
    limits::id("gameId", &next)?;
    Ok(next)
}

async fn create(cx: &Cx, new: &NewGame) -> Result<GameView> {
    let games = cx.service(state::NAME)?;
    let create = games.post("/internal/games").json(new);
    create.idempotent().send().await
}

fn place(view: &GameView) -> String {
    format!("/api/v1/games/{}", view.game_id)
}
