use proptest::prelude::*;
use serde_json::json;

use super::*;

const START: &str = "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - 0 1";

fn chess(fen: &str) -> Position {
    let rules = Rules::Chess(Box::new(Chess::of(fen)));
    let moves = Vec::new();
    Position { rules, moves }
}

/// `e2e4`, or `e7e8q`.
fn squares(text: &str) -> Move {
    let promotion = text.get(4..5).map(|letter| match letter {
        "q" => Promotion::Queen,
        "r" => Promotion::Rook,
        "b" => Promotion::Bishop,
        "n" => Promotion::Knight,
        other => panic!("{other} is no piece"),
    });
    Move::Squares {
        from: text[..2].to_owned(),
        to: text[2..4].to_owned(),
        promotion,
    }
}

/// Plays the moves and gives their notation.
fn play(position: &mut Position, moves: &str) -> Vec<String> {
    let moves = moves.split_whitespace();
    let played = moves.map(|text| {
        let by = position.turn().unwrap();
        position.play(by, &squares(text)).unwrap()
    });
    played.collect()
}

fn drop_discs(columns: &str) -> Position {
    let mut position = Position::new(Kind::ConnectFour);
    for letter in columns.bytes() {
        let column = letter - b'a';
        let by = position.turn().unwrap();
        let notation = position.play(by, &Move::Column { column }).unwrap();
        assert_eq!(notation.as_bytes(), [letter]);
    }
    position
}

fn code(position: &mut Position, by: Seat, wanted: &Move) -> (String, String) {
    let before = position.clone();
    let error = position.play(by, wanted).unwrap_err();
    assert_eq!(*position, before, "an error changed the position");
    (error.code().to_owned(), error.message().to_owned())
}

fn ended(position: &Position) -> (Option<Seat>, Reason) {
    let outcome = position.outcome().expect("the game is over");
    assert_eq!(position.turn(), None);
    assert!(position.legal_moves().is_empty());
    (outcome.winner, outcome.reason)
}

/// How many ways there are to play so many moves.
fn perft(position: &Position, depth: u32) -> u64 {
    let moves = position.legal_moves();
    if depth == 1 {
        return u64::try_from(moves.len()).unwrap();
    }
    let after = moves.iter().map(|wanted| {
        let mut next = position.clone();
        let by = next.turn().unwrap();
        next.play(by, wanted).unwrap();
        perft(&next, depth - 1)
    });
    after.sum()
}

/// The numbers are those that chess programmers check their move generators by.
#[test]
fn chess_has_exactly_its_moves() {
    let known = [
        (START, 4, 197_281),
        (
            "r3k2r/p1ppqpb1/bn2pnp1/3PN3/1p2P3/2N2Q1p/PPPBBPPP/R3K2R w KQkq - 0 1",
            3,
            97_862,
        ),
        ("8/2p5/3p4/KP5r/1R3p1k/8/4P1P1/8 w - - 0 1", 4, 43_238),
        (
            "r3k2r/Pppp1ppp/1b3nbN/nP6/BBP1P3/q4N2/Pp1P2PP/R2Q1RK1 w kq - 0 1",
            3,
            9_467,
        ),
        (
            "rnbq1k1r/pp1Pbppp/2p5/8/2B5/8/PPP1NnPP/RNBQK2R w KQ - 1 8",
            3,
            62_379,
        ),
    ];
    for (fen, depth, nodes) in known {
        assert_eq!(perft(&chess(fen), depth), nodes, "{fen}");
    }
}

#[test]
fn chess_ends_by_mate() {
    let mut fools = Position::new(Kind::Chess);
    let notation = play(&mut fools, "f2f3 e7e5 g2g4 d8h4");
    assert_eq!(notation, ["f3", "e5", "g4", "Qh4#"]);
    assert_eq!(ended(&fools), (Some(Seat::Second), Reason::Checkmate));
    assert_eq!(fools.board()["check"], true);

    let mut scholars = Position::new(Kind::Chess);
    let notation = play(&mut scholars, "e2e4 e7e5 f1c4 b8c6 d1h5 g8f6 h5f7");
    assert_eq!(notation.join(" "), "e4 e5 Bc4 Nc6 Qh5 Nf6 Qxf7#");
    assert_eq!(ended(&scholars), (Some(Seat::First), Reason::Checkmate));
    let (code, _) = code(&mut scholars, Seat::Second, &squares("e8f7"));
    assert_eq!(code, "game_over");
}

#[test]
fn chess_is_drawn_by_stalemate_and_by_material() {
    let mut position = chess("7k/8/5KQ1/8/8/8/8/8 w - - 0 1");
    assert_eq!(play(&mut position, "g6f7"), ["Qf7"]);
    assert_eq!(ended(&position), (None, Reason::Stalemate));

    let mut position = chess("4k3/8/8/8/8/8/3p4/4K1N1 w - - 0 1");
    assert_eq!(play(&mut position, "e1d2"), ["Kxd2"]);
    assert_eq!(ended(&position), (None, Reason::Material));
}

#[test]
fn a_position_that_stands_for_the_third_time_is_a_draw() {
    let there_and_back = "g1f3 g8f6 f3g1 f6g8";
    let mut position = Position::new(Kind::Chess);
    play(&mut position, there_and_back);
    play(&mut position, "g1f3 g8f6 f3g1");
    assert_eq!(position.outcome(), None);
    play(&mut position, "f6g8");
    assert_eq!(ended(&position), (None, Reason::Repetition));

    // The king's way out takes the right to castle: from then on it is another position.
    let mut position = Position::new(Kind::Chess);
    play(&mut position, "e2e4 e7e5 e1e2 e8e7 e2e1 e7e8");
    play(&mut position, "e1e2 e8e7 e2e1 e7e8");
    assert_eq!(position.outcome(), None);
    play(&mut position, "e1e2 e8e7");
    assert_eq!(ended(&position), (None, Reason::Repetition));
}

#[test]
fn fifty_quiet_moves_are_a_draw_unless_the_last_one_mates() {
    let mut position = chess("7k/8/8/8/8/8/R7/K7 w - - 98 80");
    play(&mut position, "a2b2");
    assert_eq!(position.outcome(), None);
    play(&mut position, "h8g8");
    assert_eq!(ended(&position), (None, Reason::FiftyMoves));

    let mut position = chess("7k/8/8/8/8/8/P7/K5R1 w - - 99 80");
    play(&mut position, "a2a3 h8h7");
    assert_eq!(position.outcome(), None);

    let mut mates = chess("7k/8/6K1/8/8/8/8/R7 w - - 99 80");
    play(&mut mates, "a1a8");
    assert_eq!(ended(&mates), (Some(Seat::First), Reason::Checkmate));
}

#[test]
fn castling_en_passant_and_promotion_are_moves_from_square_to_square() {
    let both = "r3k2r/8/8/8/8/8/8/R3K2R w KQkq - 0 1";
    let mut position = chess(both);
    assert_eq!(play(&mut position, "e1g1 e8c8"), ["O-O", "O-O-O"]);
    assert_eq!(position.board()["fen"], "2kr3r/8/8/8/8/8/8/R4RK1 w - - 2 2");
    let legal = chess(both).legal_moves();
    assert!(legal.contains(&squares("e1g1")) && legal.contains(&squares("e1c1")));
    assert!(!legal.contains(&squares("e1h1")) && !legal.contains(&squares("e1a1")));
    let (code_found, _) = code(&mut chess(both), Seat::First, &squares("e1h1"));
    assert_eq!(code_found, "illegal_move");
    // Through an attacked square.
    let mut attacked = chess("4k3/8/8/8/8/5r2/8/4K2R w K - 0 1");
    assert_eq!(
        code(&mut attacked, Seat::First, &squares("e1g1")).0,
        "illegal_move"
    );

    let mut position = Position::new(Kind::Chess);
    let notation = play(&mut position, "e2e4 a7a6 e4e5 d7d5 e5d6");
    assert_eq!(notation.last().unwrap(), "exd6");
    assert_eq!(
        position.board()["fen"],
        "rnbqkbnr/1pp1pppp/p2P4/8/8/8/PPPP1PPP/RNBQKBNR b KQkq - 0 3"
    );

    let pawn = "3r3k/4P3/8/8/8/8/8/K7 w - - 0 1";
    assert_eq!(play(&mut chess(pawn), "e7d8q"), ["exd8=Q+"]);
    assert_eq!(play(&mut chess(pawn), "e7e8n"), ["e8=N"]);
    let (_, why) = code(&mut chess(pawn), Seat::First, &squares("e7e8"));
    assert!(why.contains("what the pawn becomes"), "{why}");
}

#[test]
fn a_move_that_is_refused_says_why() {
    let refused = [
        (START, "e3e4", "nothing stands on e3"),
        (START, "e7e5", "the piece on e7 is the opponent's"),
        (START, "g1g3", "the knight on g1 can't go to g3"),
        (
            START,
            "e2e4q",
            "only a pawn that gets to the last rank becomes something else",
        ),
        (
            "4k3/8/8/8/8/4r3/8/4K2R w - - 0 1",
            "h1h2",
            "the king is in check, and h1 to h2 does not help",
        ),
        (
            "4r1k1/8/8/8/8/8/4B3/4K3 w - - 0 1",
            "e2d3",
            "the piece on e2 keeps its king out of check",
        ),
    ];
    for (fen, wanted, expected) in refused {
        let (code, why) = code(&mut chess(fen), Seat::First, &squares(wanted));
        assert_eq!((code.as_str(), why.as_str()), ("illegal_move", expected));
    }
    for nowhere in ["", "e9", "i1", "e", "e22", "ée", "E2"] {
        let wanted = Move::Squares {
            from: nowhere.to_owned(),
            to: "e4".to_owned(),
            promotion: None,
        };
        let (code, _) = code(&mut Position::new(Kind::Chess), Seat::First, &wanted);
        assert_eq!(code, "illegal_move", "{nowhere}");
    }
    let mut position = Position::new(Kind::Chess);
    assert_eq!(
        code(&mut position, Seat::Second, &squares("e7e5")).0,
        "not_your_turn"
    );
    let column = Move::Column { column: 3 };
    assert_eq!(code(&mut position, Seat::First, &column).0, "wrong_kind");
    let mut position = Position::new(Kind::ConnectFour);
    assert_eq!(
        code(&mut position, Seat::First, &squares("e2e4")).0,
        "wrong_kind"
    );
}

#[test]
fn who_can_never_win_does_not_win_on_time() {
    let can = [
        ("4k3/8/8/8/8/8/8/4K3 w - - 0 1", false, false),
        ("4k3/8/8/8/8/8/8/4K1N1 w - - 0 1", false, false),
        ("4k3/8/8/8/8/8/8/4KNN1 w - - 0 1", true, false),
        ("4k3/8/8/8/8/8/8/4KBN1 w - - 0 1", true, false),
        // A knight needs something of the other's in the king's way; a queen would take it.
        ("3qk3/8/8/8/8/8/8/4K1N1 w - - 0 1", false, true),
        ("3rk3/8/8/8/8/8/8/4K1N1 w - - 0 1", true, true),
        ("4k3/3p4/8/8/8/8/8/4K1N1 w - - 0 1", true, true),
        // Bishops: c1 and f8 are dark, c8 is light.
        ("4kb2/8/8/8/8/8/8/2B1K3 w - - 0 1", false, false),
        ("2b1k3/8/8/8/8/8/8/2B1K3 w - - 0 1", true, true),
        ("3rk3/8/8/8/8/8/8/2B1K3 w - - 0 1", false, true),
        ("3nk3/8/8/8/8/8/8/2B1K3 w - - 0 1", true, true),
    ];
    for (fen, first, second) in can {
        let position = chess(fen);
        let found = (
            position.can_win(Seat::First),
            position.can_win(Seat::Second),
        );
        assert_eq!(found, (first, second), "{fen}");
        let is_drawn = position.outcome() == Outcome::drawn(Reason::Material);
        assert_eq!(is_drawn, !first && !second, "{fen}");
    }
    let position = Position::new(Kind::ConnectFour);
    assert!(position.can_win(Seat::First) && position.can_win(Seat::Second));
}

#[test]
fn four_in_a_row_win_in_all_directions() {
    let won = [
        ("agbgcgd", Seat::First, [[5, 0], [5, 1], [5, 2], [5, 3]]),
        ("abababa", Seat::First, [[5, 0], [4, 0], [3, 0], [2, 0]]),
        ("gabacada", Seat::Second, [[5, 0], [4, 0], [3, 0], [2, 0]]),
        ("abbccdcddgd", Seat::First, [[5, 0], [4, 1], [3, 2], [2, 3]]),
        ("gffeededdad", Seat::First, [[2, 3], [3, 4], [4, 5], [5, 6]]),
    ];
    for (columns, winner, line) in won {
        let position = drop_discs(columns);
        assert_eq!(
            ended(&position),
            (Some(winner), Reason::FourInARow),
            "{columns}"
        );
        let mut line: Vec<_> = line.into_iter().collect();
        line.sort();
        let found = position.board()["line"].clone();
        let mut found: Vec<[u8; 2]> = serde_json::from_value(found).unwrap();
        found.sort();
        assert_eq!(found, line, "{columns}");
    }
}

#[test]
fn a_column_and_the_board_have_an_end() {
    let mut position = drop_discs("aaaaaa");
    let full = Move::Column { column: 0 };
    let (found, why) = code(&mut position, Seat::First, &full);
    assert_eq!(
        (found.as_str(), why.as_str()),
        ("illegal_move", "the column is full")
    );
    assert!(!position.legal_moves().contains(&full));
    assert_eq!(position.legal_moves().len(), 6);
    let beyond = Move::Column { column: 7 };
    assert_eq!(code(&mut position, Seat::First, &beyond).0, "illegal_move");
    let last = Move::Column { column: 255 };
    assert_eq!(code(&mut position, Seat::First, &last).0, "illegal_move");

    // No four anywhere: pairs of columns, each with the other's discs at another height.
    let position = drop_discs("abababbababacdcdcddcdcdcefefeffefefegggggg");
    assert_eq!(ended(&position), (None, Reason::BoardFull));
    assert!(!position.can_win(Seat::First) && !position.can_win(Seat::Second));
}

#[test]
fn a_board_has_its_top_row_first() {
    let board = drop_discs("dd").board();
    assert_eq!(board["rows"][5], json!([0, 0, 0, 1, 0, 0, 0]));
    assert_eq!(board["rows"][4], json!([0, 0, 0, 2, 0, 0, 0]));
    assert_eq!(board["rows"][0], json!([0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(board["line"], json!(null));
}

#[test]
fn moves_are_read_strictly() {
    let read = serde_json::from_value::<Move>;
    assert_eq!(
        read(json!({"column": 3})).unwrap(),
        Move::Column { column: 3 }
    );
    let promotion = json!({"from": "e7", "to": "e8", "promotion": "queen"});
    assert_eq!(read(promotion.clone()).unwrap(), squares("e7e8q"));
    assert_eq!(serde_json::to_value(squares("e7e8q")).unwrap(), promotion);
    let without = json!({"from": "e2", "to": "e4"});
    assert_eq!(serde_json::to_value(squares("e2e4")).unwrap(), without);
    let bad = [
        json!({"column": 3, "row": 1}),
        json!({"column": -1}),
        json!({"column": 256}),
        json!({"column": 3, "from": "e2", "to": "e4"}),
        json!({"from": "e2"}),
        json!({"from": "e2", "to": "e4", "promotion": "king"}),
        json!({"from": "e2", "to": "e4", "by": "first"}),
        json!([3]),
        json!("e2e4"),
        json!(null),
    ];
    for value in bad {
        let error = read(value.clone())
            .expect_err(&value.to_string())
            .to_string();
        assert!(error.contains("expected a move"), "{error}");
    }
    assert_eq!("chess".parse::<Kind>().unwrap(), Kind::Chess);
    assert_eq!(
        serde_json::to_value(Kind::ConnectFour).unwrap(),
        "connect-four"
    );
    assert_eq!("go".parse::<Kind>().unwrap_err().code(), "game_unknown");
    assert_eq!("second".parse::<Seat>().unwrap(), Seat::Second);
}

#[test]
fn a_snapshot_that_was_never_played_is_refused() {
    let one_too_many = [0, 6, 1, 6, 2, 6, 3, 6].map(|column| json!({"column": column}));
    let bad = [
        json!({"kind": "go", "moves": []}),
        json!({"kind": "chess"}),
        json!({"kind": "chess", "moves": [{"column": 3}]}),
        json!({"kind": "chess", "moves": [{"from": "e2", "to": "e5"}]}),
        json!({"kind": "chess", "moves": [], "fen": START}),
        json!({"kind": "connect-four", "moves": vec![json!({"column": 0}); 7]}),
        json!({"kind": "connect-four", "moves": one_too_many}),
    ];
    for value in bad {
        let text = value.to_string();
        serde_json::from_value::<Position>(value).expect_err(&text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// A game goes on with a move, or is over; its moves played again, and its snapshot read again, are the same position.
    #[test]
    fn a_game_of_any_legal_moves_can_be_played_again(
        is_chess: bool,
        choices in proptest::collection::vec(any::<proptest::sample::Index>(), 1..240),
    ) {
        let kind = if is_chess { Kind::Chess } else { Kind::ConnectFour };
        let mut position = Position::new(kind);
        let mut notations = Vec::new();
        for choice in choices {
            let legal = position.legal_moves();
            prop_assert_eq!(legal.is_empty(), position.turn().is_none());
            prop_assert_eq!(legal.is_empty(), position.outcome().is_some());
            let Some(by) = position.turn() else { break };
            let wanted = choice.get(&legal);
            prop_assert!(position.clone().play(by.other(), wanted).is_err());
            notations.push(position.play(by, wanted).unwrap());
        }
        let mut again = Position::new(kind);
        for (wanted, notation) in position.moves().iter().zip(&notations) {
            let by = again.turn().unwrap();
            prop_assert_eq!(&again.play(by, wanted).unwrap(), notation);
        }
        prop_assert_eq!(&again, &position);
        let stored = serde_json::to_string(&position).unwrap();
        prop_assert_eq!(serde_json::from_str::<Position>(&stored).unwrap(), position);
    }

    /// Whatever somebody sends is a move, or an error; never a panic, never a change.
    #[test]
    fn any_text_for_a_square_is_an_error_or_a_move(from in ".{0,4}", to in ".{0,4}") {
        let mut position = Position::new(Kind::Chess);
        let before = position.clone();
        let wanted = Move::Squares { from, to, promotion: None };
        match position.play(Seat::First, &wanted) {
            Ok(_) => prop_assert!(before.legal_moves().contains(&wanted)),
            Err(_) => prop_assert_eq!(position, before),
        }
    }
}
