//! What may happen to a game: from its state and the time to events, or to a refusal. No I/O.

use trunkline::{Error, ErrorKind, Result, Timestamp};

use super::game::{Game, GameEvent, Player};
use crate::games::{Move, Outcome, Reason, Seat};
use crate::limits;
use crate::view::Status;

/// Where the user sits in a game that is played.
fn playing(game: &Game, user: &str) -> Result<Seat> {
    let seat = game.seat_of(user).ok_or_else(|| {
        let text = "only its players play a game";
        Error::new(ErrorKind::PermissionDenied, "not_a_player", text)
    })?;
    match game.status {
        Status::Active => Ok(seat),
        Status::Waiting => Err(Error::conflict(
            "game_not_started",
            "the game has not started",
        )),
        Status::Completed | Status::Cancelled => {
            Err(Error::conflict("game_over", "the game is over"))
        }
    }
}

/// Somebody takes the other place.
pub(super) fn join(
    game: &Game,
    player: Player,
    (game_id, version): (&str, u64),
) -> Result<Vec<GameEvent>> {
    if game.host_id.is_empty() {
        return Err(limits::unknown("game", game_id));
    }
    if game.seat_of(&player.user_id).is_some() {
        if game.host_id == player.user_id {
            let text = "nobody plays against themself";
            return Err(Error::conflict("opponent_self", text));
        }
        return Ok(Vec::new());
    }
    let is_asked = game
        .opponent
        .as_ref()
        .is_none_or(|asked| *asked == player.user_id);
    if !is_asked {
        let text = "this game is for somebody else";
        return Err(Error::new(ErrorKind::PermissionDenied, "not_invited", text));
    }
    if game.status != Status::Waiting || game.match_id.is_some() {
        return Err(Error::conflict("game_full", "both places are taken"));
    }
    let match_id = format!("{game_id}.{}", version.saturating_add(1));
    Ok(vec![GameEvent::Joined { player, match_id }])
}

/// A match begins, once.
pub(super) fn start(game: &Game, match_id: &str, now: Timestamp) -> Result<Vec<GameEvent>> {
    if game.match_id.as_deref() != Some(match_id) {
        return Err(Error::conflict(
            "match_gone",
            "the game has another match, or none",
        ));
    }
    match game.status {
        Status::Waiting => Ok(vec![GameEvent::Started { at: now }]),
        Status::Active | Status::Completed => Ok(Vec::new()),
        Status::Cancelled => Err(Error::conflict("game_over", "the game was called off")),
    }
}

/// A player has to give the place up before the match begins.
pub(super) fn turn_away(game: &Game, match_id: &str, user: &str) -> Vec<GameEvent> {
    let is_waiting = game.status == Status::Waiting && game.match_id.as_deref() == Some(match_id);
    if !is_waiting || game.host_id == user || game.seat_of(user).is_none() {
        return Vec::new();
    }
    let user_id = user.to_owned();
    vec![GameEvent::TurnedAway { user_id }]
}

/// A match comes to nothing; one that is over stays as it is.
pub(super) fn call_off(game: &Game, match_id: &str) -> Vec<GameEvent> {
    let is_on = matches!(game.status, Status::Waiting | Status::Active);
    if is_on && game.match_id.as_deref() == Some(match_id) {
        return vec![cancelled(game)];
    }
    Vec::new()
}

/// Whoever opened a table closes it, while nobody has joined.
pub(super) fn cancel(game: &Game, user: &str) -> Result<Vec<GameEvent>> {
    if game.host_id != user {
        let text = "only who opened a game calls it off";
        return Err(Error::new(
            ErrorKind::PermissionDenied,
            "not_the_host",
            text,
        ));
    }
    match game.status {
        Status::Cancelled => Ok(Vec::new()),
        Status::Waiting if game.match_id.is_none() => Ok(vec![cancelled(game)]),
        Status::Completed => Err(Error::conflict("game_over", "the game is over")),
        Status::Waiting | Status::Active => Err(Error::conflict(
            "game_full",
            "somebody has joined: resign instead",
        )),
    }
}

/// A move, at a moment.
pub(super) fn play(
    game: &Game,
    (user, wanted): (&str, &Move),
    now: Timestamp,
) -> Result<Vec<GameEvent>> {
    let by = playing(game, user)?;
    let mut position = game.position.clone();
    let notation = position.play(by, wanted)?;
    let left = left_ms(game, by, now);
    if left == 0 {
        return Err(Error::conflict("time_over", "the time has run out"));
    }
    let mut events = vec![GameEvent::Moved {
        by,
        played: wanted.clone(),
        notation,
        left_ms: left.saturating_add(game.increment_ms),
        at: now,
    }];
    if let Some(outcome) = position.outcome() {
        events.push(completed(game, outcome));
    }
    Ok(events)
}

/// What a player's clock shows at a moment.
pub(super) fn left_ms(game: &Game, seat: Seat, now: Timestamp) -> u64 {
    let clock = game.sitting(seat).map_or(0, |sitting| sitting.clock_ms);
    let Some(since) = game.running_since.filter(|_| game.turn() == Some(seat)) else {
        return clock;
    };
    // Processes have clocks of their own: time never runs backwards for a player.
    let spent = now.duration_since(since).as_millis();
    clock.saturating_sub(u64::try_from(spent).unwrap_or(0))
}

/// The clock that ran since a moment may have run out: what follows if it has.
pub(super) fn flag(game: &Game, since: Timestamp, now: Timestamp) -> Vec<GameEvent> {
    let is_same_turn = game.running_since == Some(since);
    let Some(by) = game.turn().filter(|_| is_same_turn) else {
        return Vec::new();
    };
    if left_ms(game, by, now) > 0 {
        return Vec::new();
    }
    let outcome = if game.position.can_win(by.other()) {
        won(by.other(), Reason::Time)
    } else {
        drawn(Reason::Material)
    };
    vec![GameEvent::TimedOut { by }, completed(game, outcome)]
}

/// A player gives up.
pub(super) fn resign(game: &Game, user: &str) -> Result<Vec<GameEvent>> {
    let by = playing(game, user)?;
    let outcome = won(by.other(), Reason::Resignation);
    Ok(vec![GameEvent::Resigned { by }, completed(game, outcome)])
}

/// A player offers a draw. Who offers what was offered to them takes it.
pub(super) fn offer_draw(game: &Game, user: &str) -> Result<Vec<GameEvent>> {
    let by = playing(game, user)?;
    match game.draw_offer {
        Some(offer) if offer == by => Ok(Vec::new()),
        Some(_) => Ok(vec![completed(game, drawn(Reason::Agreement))]),
        None => Ok(vec![GameEvent::DrawOffered { by }]),
    }
}

/// A player takes a draw, or declines it.
pub(super) fn answer_draw(game: &Game, user: &str, accept: bool) -> Result<Vec<GameEvent>> {
    let by = playing(game, user)?;
    if game.draw_offer != Some(by.other()) {
        let text = "the other player has offered no draw";
        return Err(Error::conflict("draw_not_offered", text));
    }
    Ok(vec![if accept {
        completed(game, drawn(Reason::Agreement))
    } else {
        GameEvent::DrawDeclined { by }
    }])
}

fn completed(game: &Game, outcome: Outcome) -> GameEvent {
    let players = game.players();
    GameEvent::Completed { outcome, players }
}

fn cancelled(game: &Game) -> GameEvent {
    completed(game, drawn(Reason::Cancelled))
}

fn won(winner: Seat, reason: Reason) -> Outcome {
    let winner = Some(winner);
    Outcome { winner, reason }
}

fn drawn(reason: Reason) -> Outcome {
    let winner = None;
    Outcome { winner, reason }
}

#[cfg(test)]
mod tests;
