//! What users can achieve, each once.

use crate::games::{Kind, Reason};

/// Moves of each side within which a mate is quick.
const QUICK_MATE_MOVES: u32 = 20;
/// Wins one after the other that are a row.
const ROW: i64 = 5;

/// Something that can be achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Achievement {
    FirstGame,
    FirstWin,
    FiveInARow,
    QuickMate,
    FourInARow,
    TenGames,
}

/// A game of a user, and what they have done before it and with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Played {
    pub(super) kind: Kind,
    pub(super) won: bool,
    pub(super) reason: Reason,
    /// Moves of both sides.
    pub(super) moves: u32,
    /// Games so far, this one included.
    pub(super) games: u32,
    /// Wins one after the other, this one included.
    pub(super) wins_running: i64,
}

impl Achievement {
    const ALL: [Self; 6] = [
        Self::FirstGame,
        Self::FirstWin,
        Self::FiveInARow,
        Self::QuickMate,
        Self::FourInARow,
        Self::TenGames,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FirstGame => "first-game",
            Self::FirstWin => "first-win",
            Self::FiveInARow => "five-in-a-row",
            Self::QuickMate => "quick-mate",
            Self::FourInARow => "four-in-a-row",
            Self::TenGames => "ten-games",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::FirstGame => "First game",
            Self::FirstWin => "First win",
            Self::FiveInARow => "Five wins in a row",
            Self::QuickMate => "Checkmate in under twenty moves",
            Self::FourInARow => "Four in a row",
            Self::TenGames => "Ten games",
        }
    }

    /// The title of a name that was stored.
    pub(super) fn title_of(name: &str) -> &'static str {
        let found = Self::ALL.into_iter().find(|known| known.name() == name);
        found.map_or("", Self::title)
    }

    /// Those that a game is enough for.
    pub(super) fn of(played: Played) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |one| one.is_met(played))
    }

    fn is_met(self, played: Played) -> bool {
        match self {
            Self::FirstGame => true,
            Self::FirstWin => played.won,
            Self::FiveInARow => played.wins_running >= ROW,
            Self::QuickMate => {
                let moves_each = played.moves.div_ceil(2);
                played.won && played.reason == Reason::Checkmate && moves_each < QUICK_MATE_MOVES
            }
            Self::FourInARow => {
                let by_four = played.reason == Reason::FourInARow;
                played.won && played.kind == Kind::ConnectFour && by_four
            }
            Self::TenGames => played.games >= 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(played: Played) -> Vec<&'static str> {
        Achievement::of(played).map(Achievement::name).collect()
    }

    #[test]
    fn a_game_is_enough_for_what_it_shows() {
        let lost = Played {
            kind: Kind::Chess,
            won: false,
            reason: Reason::Checkmate,
            moves: 7,
            games: 1,
            wins_running: 0,
        };
        assert_eq!(names(lost), ["first-game"]);
        let mate = Played {
            won: true,
            wins_running: 1,
            ..lost
        };
        assert_eq!(names(mate), ["first-game", "first-win", "quick-mate"]);
        let slow = Played { moves: 39, ..mate };
        assert_eq!(names(slow), ["first-game", "first-win"]);
        let fifth = Played {
            kind: Kind::ConnectFour,
            reason: Reason::FourInARow,
            games: 10,
            wins_running: 5,
            ..mate
        };
        assert_eq!(
            names(fifth),
            [
                "first-game",
                "first-win",
                "five-in-a-row",
                "four-in-a-row",
                "ten-games"
            ]
        );
    }
}
