//! The rules of the games: whose turn it is, which moves are legal, and when a game is over. No I/O, no clock.

mod chess;
mod connect_four;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trunkline::{Error, Result};

use chess::Chess;
use connect_four::ConnectFour;

/// Which game is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Four discs in a row, on seven columns of six.
    ConnectFour,
    /// Chess by the laws of FIDE; draws by repetition and by fifty moves need no claim.
    Chess,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::ConnectFour, Self::Chess];

    /// Its name: `connect-four` or `chess`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectFour => "connect-four",
            Self::Chess => "chess",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::invalid("game_unknown", format!("expected one of {known}"))
                .with("found", beginning(name))
        })
    }
}

/// A place at the table. Whoever sits first makes the first move; in chess that is white.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Seat {
    /// Makes the first move.
    First,
    /// Makes the second one.
    Second,
}

impl Seat {
    /// Its name: `first` or `second`.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
        }
    }

    /// The place on the other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Seat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "first" => Ok(Self::First),
            "second" => Ok(Self::Second),
            _ => Err(
                Error::invalid("seat_unknown", "expected `first` or `second`")
                    .with("found", beginning(name)),
            ),
        }
    }
}

/// What a pawn becomes on the last rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Promotion {
    /// A queen.
    Queen,
    /// A rook.
    Rook,
    /// A bishop.
    Bishop,
    /// A knight.
    Knight,
}

/// A move, as a player asks for it.
///
/// # Shape
/// In JSON `{"column": 3}`, with columns from 0 at the left, or `{"from": "e7", "to": "e8", "promotion": "queen"}`. Castling is
/// the king's move of two squares.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "expected a move: {\"column\": 3}, or {\"from\": \"e2\", \"to\": \"e4\"} with an optional promotion"
)]
pub enum Move {
    /// A disc into a column.
    Column {
        /// From 0 at the left to 6.
        column: u8,
    },
    /// A piece from one square to another.
    Squares {
        /// Where it stands.
        from: String,
        /// Where it goes.
        to: String,
        /// What a pawn becomes, if it gets to the last rank.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        promotion: Option<Promotion>,
    },
}

/// Why a game is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Four discs stand in a row.
    FourInARow,
    /// The king is attacked and nothing helps.
    Checkmate,
    /// No move is left, and the king is not attacked.
    Stalemate,
    /// A position stood on the board for the third time.
    Repetition,
    /// Fifty moves of each without a capture or a pawn's move.
    FiftyMoves,
    /// Neither side, or not the one whose opponent ran out of time, can ever win.
    Material,
    /// No column has room.
    BoardFull,
    /// A player gave up.
    Resignation,
    /// A player's time ran out.
    Time,
    /// The players agreed on a draw.
    Agreement,
    /// The game was called off.
    Cancelled,
}

/// How a game ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// Who won; nobody in a draw.
    pub winner: Option<Seat>,
    /// Why it is over.
    pub reason: Reason,
}

impl Outcome {
    fn won(winner: Seat, reason: Reason) -> Option<Self> {
        let winner = Some(winner);
        Some(Self { winner, reason })
    }

    fn drawn(reason: Reason) -> Option<Self> {
        let winner = None;
        Some(Self { winner, reason })
    }
}

/// A game's position, with all moves that led to it.
///
/// # Shape
/// It is stored as the game's kind and its moves, and read by playing them: what can't have been played is an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Snapshot", into = "Snapshot")]
pub struct Position {
    rules: Rules,
    moves: Vec<Move>,
}

#[derive(Debug, Clone, PartialEq)]
enum Rules {
    ConnectFour(ConnectFour),
    Chess(Box<Chess>),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Snapshot {
    kind: Kind,
    moves: Vec<Move>,
}

impl From<Position> for Snapshot {
    fn from(position: Position) -> Self {
        let kind = position.kind();
        let moves = position.moves;
        Self { kind, moves }
    }
}

impl TryFrom<Snapshot> for Position {
    type Error = Error;

    fn try_from(snapshot: Snapshot) -> Result<Self> {
        let mut position = Self::new(snapshot.kind);
        for (number, wanted) in snapshot.moves.iter().enumerate() {
            let by = position.turn().unwrap_or(Seat::First);
            let played = position.play(by, wanted);
            played.map_err(|error| error.with("move", number + 1))?;
        }
        Ok(position)
    }
}

impl Position {
    /// The position that a game begins with.
    pub fn new(kind: Kind) -> Self {
        let rules = match kind {
            Kind::ConnectFour => Rules::ConnectFour(ConnectFour::default()),
            Kind::Chess => Rules::Chess(Box::default()),
        };
        let moves = Vec::new();
        Self { rules, moves }
    }

    /// Which game it is.
    pub fn kind(&self) -> Kind {
        match self.rules {
            Rules::ConnectFour(_) => Kind::ConnectFour,
            Rules::Chess(_) => Kind::Chess,
        }
    }

    /// Whose turn it is; nobody's when the game is over by its rules.
    pub fn turn(&self) -> Option<Seat> {
        if self.outcome().is_some() {
            return None;
        }
        Some(match &self.rules {
            Rules::ConnectFour(game) => game.turn(),
            Rules::Chess(game) => game.turn(),
        })
    }

    /// Plays a move, and gives it in the game's notation: `Nf3+`, or the column's letter.
    ///
    /// # Errors
    /// `wrong_kind` for a move of another game, `game_over`, `not_your_turn`, and `illegal_move`, which says why. After an error
    /// the position is what it was.
    pub fn play(&mut self, by: Seat, wanted: &Move) -> Result<String> {
        match self.turn() {
            None => return Err(Error::conflict("game_over", "the game is over")),
            Some(turn) if turn != by => {
                let message = format!("it is the turn of who sits {turn}");
                return Err(Error::conflict("not_your_turn", message));
            }
            Some(_) => {}
        }
        let notation = match (&mut self.rules, wanted) {
            (Rules::ConnectFour(game), Move::Column { column }) => game.play(*column),
            (
                Rules::Chess(game),
                Move::Squares {
                    from,
                    to,
                    promotion,
                },
            ) => game.play(from, to, *promotion),
            (Rules::ConnectFour(_), Move::Squares { .. }) => {
                Err(wrong_kind("expected a column, as in {\"column\": 3}"))
            }
            (Rules::Chess(_), Move::Column { .. }) => Err(wrong_kind(
                "expected two squares, as in {\"from\": \"e2\", \"to\": \"e4\"}",
            )),
        }?;
        self.moves.push(wanted.clone());
        Ok(notation)
    }

    /// How the game ended by its rules.
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.rules {
            Rules::ConnectFour(game) => game.outcome(),
            Rules::Chess(game) => game.outcome(),
        }
    }

    /// All moves of whose turn it is; none when the game is over.
    pub fn legal_moves(&self) -> Vec<Move> {
        if self.outcome().is_some() {
            return Vec::new();
        }
        match &self.rules {
            Rules::ConnectFour(game) => game.legal_moves(),
            Rules::Chess(game) => game.legal_moves(),
        }
    }

    /// The moves that were played, in their order.
    pub fn moves(&self) -> &[Move] {
        &self.moves
    }

    /// What stands where, for a page.
    ///
    /// # Shape
    /// Chess: `{"fen": "…", "check": false}`. Connect four: `{"rows": [[0, 1, 2, …]; 6], "line": [[row, column]; 4] or null}`, the
    /// top row first, 0 where nothing stands.
    pub fn board(&self) -> Value {
        match &self.rules {
            Rules::ConnectFour(game) => game.board(),
            Rules::Chess(game) => game.board(),
        }
    }

    /// Whether this side could win by any moves that are left: who runs out of time loses only to who can.
    pub fn can_win(&self, seat: Seat) -> bool {
        match &self.rules {
            Rules::ConnectFour(game) => game.can_win(seat),
            Rules::Chess(game) => game.can_win(seat),
        }
    }
}

fn illegal(why: impl Into<Cow<'static, str>>) -> Error {
    Error::conflict("illegal_move", why)
}

fn wrong_kind(expected: &'static str) -> Error {
    Error::invalid("wrong_kind", expected)
}

/// As much of what a stranger wrote as an error repeats.
fn beginning(text: &str) -> String {
    text.chars().take(20).collect()
}

#[cfg(test)]
mod tests;
