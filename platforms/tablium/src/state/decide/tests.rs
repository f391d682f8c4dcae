//! What may happen to a game, and what may not.

use trunkline::Aggregate as _;

use super::*;
use crate::games::Kind;

fn player(name: &str) -> Player {
    Player {
        user_id: format!("usr_{name}"),
        username: name.to_owned(),
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn opened(kind: Kind) -> Game {
    let mut game = Game::default();
    game.apply(&GameEvent::Created {
        kind,
        host: player("ada"),
        host_seat: Seat::First,
        opponent: None,
        stake: None,
        initial_ms: 60_000,
        increment_ms: 2_000,
        private: false,
    });
    game
}

/// A game that began at 1,000 s.
fn started(kind: Kind) -> Game {
    let mut game = opened(kind);
    take(&mut game, join(&opened(kind), player("bob"), ("g", 1)));
    let begun = start(&game, "g.2", at(1_000));
    take(&mut game, begun);
    game
}

fn take(game: &mut Game, events: Result<Vec<GameEvent>>) {
    for event in events.unwrap() {
        game.apply(&event);
    }
}

fn column(column: u8) -> Move {
    Move::Column { column }
}

fn squares(from: &str, to: &str) -> Move {
    Move::Squares {
        from: from.to_owned(),
        to: to.to_owned(),
        promotion: None,
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T>, code: &str) {
    assert_eq!(result.unwrap_err().code(), code);
}

#[test]
fn a_place_is_taken_once_and_by_whom_it_is_for() {
    let mut game = opened(Kind::Chess);
    refused(join(&game, player("ada"), ("g", 1)), "opponent_self");
    let joined = join(&game, player("bob"), ("g", 1));
    take(&mut game, joined);
    assert_eq!(join(&game, player("bob"), ("g", 2)).unwrap(), []);
    refused(join(&game, player("eve"), ("g", 2)), "game_full");
    refused(
        join(&Game::default(), player("eve"), ("g", 0)),
        "game_unknown",
    );
    let mut challenge = opened(Kind::Chess);
    challenge.opponent = Some("usr_bob".to_owned());
    refused(join(&challenge, player("eve"), ("g", 1)), "not_invited");
}

#[test]
fn who_is_turned_away_leaves_the_table_to_others() {
    let mut game = opened(Kind::Chess);
    let joined = join(&game, player("bob"), ("g", 1));
    take(&mut game, joined);
    assert_eq!(turn_away(&game, "g.1", "usr_bob"), [], "another match");
    assert_eq!(turn_away(&game, "g.2", "usr_ada"), [], "the host stays");
    let away = turn_away(&game, "g.2", "usr_bob");
    take(&mut game, Ok(away));
    assert_eq!(game.players(), [player("ada")]);
    let joined = join(&game, player("eve"), ("g", 3));
    take(&mut game, joined);
    refused(start(&game, "g.2", at(0)), "match_gone");
    assert_eq!(start(&game, "g.4", at(0)).unwrap().len(), 1);
}

#[test]
fn a_move_takes_time_and_gives_some_back() {
    let mut game = started(Kind::ConnectFour);
    refused(
        play(&game, ("usr_bob", &column(0)), at(1_001)),
        "not_your_turn",
    );
    refused(
        play(&game, ("usr_eve", &column(0)), at(1_001)),
        "not_a_player",
    );
    refused(
        play(&game, ("usr_ada", &column(7)), at(1_001)),
        "illegal_move",
    );
    let played = play(&game, ("usr_ada", &column(3)), at(1_010));
    take(&mut game, played);
    assert_eq!(left_ms(&game, Seat::First, at(1_040)), 52_000);
    assert_eq!(left_ms(&game, Seat::Second, at(1_040)), 30_000);
    // A process whose clock is behind takes no time away, and gives none.
    assert_eq!(left_ms(&game, Seat::Second, at(1_000)), 60_000);
    refused(play(&game, ("usr_bob", &column(3)), at(1_070)), "time_over");
}

#[test]
fn a_flag_falls_when_the_same_clock_still_runs() {
    let mut game = started(Kind::ConnectFour);
    assert_eq!(flag(&game, at(1_000), at(1_059)), [], "there is time left");
    assert_eq!(flag(&game, at(999), at(1_061)), [], "another turn");
    let fallen = flag(&game, at(1_000), at(1_060));
    assert_eq!(fallen.len(), 2);
    take(&mut game, Ok(fallen));
    let lost = won(Seat::Second, Reason::Time);
    assert_eq!((game.outcome, game.status), (Some(lost), Status::Completed));
    assert_eq!(flag(&game, at(1_000), at(1_060)), [], "it is over");
    refused(play(&game, ("usr_ada", &column(0)), at(1_061)), "game_over");
    refused(resign(&game, "usr_ada"), "game_over");
}

#[test]
fn a_draw_is_offered_taken_declined_and_forgotten() {
    let mut game = started(Kind::Chess);
    refused(answer_draw(&game, "usr_bob", true), "draw_not_offered");
    let offered = offer_draw(&game, "usr_ada");
    take(&mut game, offered);
    assert_eq!(offer_draw(&game, "usr_ada").unwrap(), [], "once is enough");
    refused(answer_draw(&game, "usr_ada", true), "draw_not_offered");
    let mut declined = game.clone();
    let answer = answer_draw(&game, "usr_bob", false);
    take(&mut declined, answer);
    assert_eq!(
        (declined.draw_offer, declined.status),
        (None, Status::Active)
    );
    // Whoever moves on declines what was offered to them, not what they have offered.
    let moved = play(&game, ("usr_ada", &squares("e2", "e4")), at(1_001));
    take(&mut game, moved);
    assert_eq!(game.draw_offer, Some(Seat::First));
    let mut agreed = game.clone();
    let answer = answer_draw(&game, "usr_bob", true);
    take(&mut agreed, answer);
    assert_eq!(agreed.outcome, Some(drawn(Reason::Agreement)));
    let moved = play(&game, ("usr_bob", &squares("e7", "e5")), at(1_002));
    take(&mut game, moved);
    assert_eq!(game.draw_offer, None);
}

#[test]
fn only_an_open_table_is_closed_and_only_by_its_host() {
    let game = opened(Kind::Chess);
    refused(cancel(&game, "usr_bob"), "not_the_host");
    let mut closed = game.clone();
    take(&mut closed, cancel(&game, "usr_ada"));
    assert_eq!(closed.status, Status::Cancelled);
    assert_eq!(cancel(&closed, "usr_ada").unwrap(), []);
    refused(join(&closed, player("bob"), ("g", 2)), "game_full");
    let running = started(Kind::Chess);
    refused(cancel(&running, "usr_ada"), "game_full");
    assert_eq!(call_off(&running, "g.9"), []);
    assert_eq!(call_off(&running, "g.2").len(), 1);
}
