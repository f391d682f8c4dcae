//! Connect four: discs fall into columns, four in a row win.

use serde_json::{Value, json};
use trunkline::Result;

use super::{Move, Outcome, Reason, Seat, illegal};

const COLUMNS: u8 = 7;
const ROWS: u8 = 6;
/// Right, up, and the two diagonals: the other four directions are these from the other end.
const DIRECTIONS: [(i8, i8); 4] = [(1, 0), (0, 1), (1, 1), (1, -1)];
const LETTERS: &str = "abcdefg";

/// A place on the board: its column from the left, its row from the bottom.
type Cell = (u8, u8);

/// A position: each column's discs from the bottom.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ConnectFour {
    columns: [Vec<Seat>; COLUMNS as usize],
    line: Option<[Cell; 4]>,
}

impl ConnectFour {
    pub(super) fn turn(&self) -> Seat {
        match self.discs() % 2 {
            0 => Seat::First,
            _ => Seat::Second,
        }
    }

    fn discs(&self) -> usize {
        self.columns.iter().map(Vec::len).sum()
    }

    pub(super) fn play(&mut self, column: u8) -> Result<String> {
        let turn = self.turn();
        let letter = LETTERS.chars().nth(usize::from(column));
        let discs = self.columns.get_mut(usize::from(column));
        let (Some(discs), Some(letter)) = (discs, letter) else {
            return Err(illegal("expected a column from 0 to 6").with("column", column));
        };
        if discs.len() >= usize::from(ROWS) {
            return Err(illegal("the column is full").with("column", column));
        }
        discs.push(turn);
        self.line = lines().find(|line| line.iter().all(|cell| self.at(*cell) == Some(turn)));
        Ok(letter.to_string())
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        let winner = self.line.and_then(|[cell, ..]| self.at(cell));
        if let Some(winner) = winner {
            return Outcome::won(winner, Reason::FourInARow);
        }
        let is_full = self.discs() == usize::from(COLUMNS * ROWS);
        is_full.then(|| Outcome::drawn(Reason::BoardFull)).flatten()
    }

    pub(super) fn legal_moves(&self) -> Vec<Move> {
        let has_room = |column: &u8| self.at((*column, ROWS - 1)).is_none();
        (0..COLUMNS)
            .filter(has_room)
            .map(|column| Move::Column { column })
            .collect()
    }

    pub(super) fn board(&self) -> Value {
        let disc = |cell| match self.at(cell) {
            None => 0,
            Some(Seat::First) => 1,
            Some(Seat::Second) => 2,
        };
        let row = |row| {
            (0..COLUMNS)
                .map(|column| disc((column, row)))
                .collect::<Vec<_>>()
        };
        let rows: Vec<_> = (0..ROWS).rev().map(row).collect();
        let from_the_top = |(column, row)| [ROWS - 1 - row, column];
        json!({ "rows": rows, "line": self.line.map(|line| line.map(from_the_top)) })
    }

    /// Whether four cells in a row are left that the other has no disc on.
    pub(super) fn can_win(&self, seat: Seat) -> bool {
        lines().any(|line| line.iter().all(|cell| self.at(*cell) != Some(seat.other())))
    }

    fn at(&self, (column, row): Cell) -> Option<Seat> {
        let discs = self.columns.get(usize::from(column))?;
        discs.get(usize::from(row)).copied()
    }
}

/// All places for four in a row.
fn lines() -> impl Iterator<Item = [Cell; 4]> {
    let cells = (0..COLUMNS).flat_map(|column| (0..ROWS).map(move |row| (column, row)));
    cells.flat_map(|cell| DIRECTIONS.into_iter().filter_map(move |to| line(cell, to)))
}

/// The four cells from this one on in a direction, if they are on the board.
fn line(from: Cell, (right, up): (i8, i8)) -> Option<[Cell; 4]> {
    let step = |(column, row): Cell| {
        let column = column.checked_add_signed(right)?;
        let row = row.checked_add_signed(up)?;
        (column < COLUMNS && row < ROWS).then_some((column, row))
    };
    let second = step(from)?;
    let third = step(second)?;
    Some([from, second, third, step(third)?])
}
