//! Chess: the moves are cozy-chess's, the draws are ours.

use cozy_chess::{
    BitBoard, Board, Color, Move as BoardMove, Piece, Rank, Square,
    util::{display_san_move, display_uci_move},
};
use serde_json::{Value, json};
use trunkline::{Error, Result};

use super::{Move, Outcome, Promotion, Reason, Seat, beginning, illegal};

/// How often a position may stand on the board.
const REPETITIONS: usize = 3;
/// Moves of either side without a capture or a pawn's move.
const QUIET_MOVES_MAX: u8 = 100;

/// A position, with those before it that may come again.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Chess {
    board: Board,
    /// Since the last capture or pawn's move: at most a hundred.
    earlier: Vec<Board>,
}

impl Chess {
    #[cfg(test)]
    pub(super) fn of(fen: &str) -> Self {
        let board = fen.parse().unwrap();
        let earlier = Vec::new();
        Self { board, earlier }
    }

    pub(super) fn turn(&self) -> Seat {
        match self.board.side_to_move() {
            Color::White => Seat::First,
            Color::Black => Seat::Second,
        }
    }

    pub(super) fn play(
        &mut self,
        from: &str,
        to: &str,
        promotion: Option<Promotion>,
    ) -> Result<String> {
        let (from, to) = (square(from)?, square(to)?);
        let promotion = promotion.map(piece);
        let wanted = self.as_the_board_has_it(BoardMove {
            from,
            to,
            promotion,
        });
        let wanted = wanted.filter(|wanted| self.board.is_legal(*wanted));
        let Some(wanted) = wanted else {
            return Err(illegal(self.why_not(from, to, promotion)));
        };
        let notation = display_san_move(&self.board, wanted).to_string();
        let before = self.board.clone();
        self.board.play(wanted);
        match self.board.halfmove_clock() {
            0 => self.earlier.clear(),
            _ => self.earlier.push(before),
        }
        Ok(notation)
    }

    /// The board's own move for ours. It writes castling as the king's move onto its rook, which we take from nobody.
    fn as_the_board_has_it(&self, wanted: BoardMove) -> Option<BoardMove> {
        let turn = self.board.side_to_move();
        if self.board.color_on(wanted.to) == Some(turn) {
            return None;
        }
        let home = Rank::First.relative_to(turn);
        let is_the_kings = wanted.from == self.board.king(turn)
            && wanted.from == Square::new(cozy_chess::File::E, home);
        let rights = self.board.castle_rights(turn);
        let rook = match wanted.to.file() {
            cozy_chess::File::G => rights.short,
            cozy_chess::File::C => rights.long,
            _ => None,
        };
        match rook.filter(|_| is_the_kings && wanted.to.rank() == home) {
            Some(rook) => Some(BoardMove {
                to: Square::new(rook, home),
                ..wanted
            }),
            None => Some(wanted),
        }
    }

    fn why_not(&self, from: Square, to: Square, promotion: Option<Piece>) -> String {
        let turn = self.board.side_to_move();
        let Some(piece) = self.board.piece_on(from) else {
            return format!("nothing stands on {from}");
        };
        if self.board.color_on(from) != Some(turn) {
            return format!("the piece on {from} is the opponent's");
        }
        let promotes = piece == Piece::Pawn && to.rank() == Rank::Eighth.relative_to(turn);
        if promotes && promotion.is_none() {
            return "expected what the pawn becomes: queen, rook, bishop or knight".to_owned();
        }
        if !promotes && promotion.is_some() {
            return "only a pawn that gets to the last rank becomes something else".to_owned();
        }
        if !self.board.checkers().is_empty() {
            return format!("the king is in check, and {from} to {to} does not help");
        }
        if self.board.pinned().has(from) {
            return format!("the piece on {from} keeps its king out of check");
        }
        format!("the {} on {from} can't go to {to}", name(piece))
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        let is_stuck = !self.board.generate_moves(|_| true);
        let is_check = !self.board.checkers().is_empty();
        if is_stuck && is_check {
            return Outcome::won(self.turn().other(), Reason::Checkmate);
        }
        if is_stuck {
            return Outcome::drawn(Reason::Stalemate);
        }
        if !self.can_win(Seat::First) && !self.can_win(Seat::Second) {
            return Outcome::drawn(Reason::Material);
        }
        let before = self.earlier.iter();
        let same = before.filter(|earlier| earlier.same_position(&self.board));
        if same.count() + 1 >= REPETITIONS {
            return Outcome::drawn(Reason::Repetition);
        }
        let is_quiet = self.board.halfmove_clock() >= QUIET_MOVES_MAX;
        is_quiet
            .then(|| Outcome::drawn(Reason::FiftyMoves))
            .flatten()
    }

    pub(super) fn legal_moves(&self) -> Vec<Move> {
        let mut all = Vec::new();
        self.board.generate_moves(|moves| {
            all.extend(
                moves
                    .into_iter()
                    .map(|found| self.as_players_have_it(found)),
            );
            false
        });
        all
    }

    fn as_players_have_it(&self, found: BoardMove) -> Move {
        let text = display_uci_move(&self.board, found).to_string();
        Move::Squares {
            from: found.from.to_string(),
            to: text.chars().skip(2).take(2).collect(),
            promotion: found.promotion.and_then(promotion),
        }
    }

    pub(super) fn board(&self) -> Value {
        let is_check = !self.board.checkers().is_empty();
        json!({ "fen": self.board.to_string(), "check": is_check })
    }

    /// Whether this side could mate at all, were the other to help: pawns, rooks, queens and two pieces always can; one
    /// knight, and bishops of one colour, only when the other's own pieces can stand in its king's way.
    pub(super) fn can_win(&self, seat: Seat) -> bool {
        let board = &self.board;
        let color = match seat {
            Seat::First => Color::White,
            Seat::Second => Color::Black,
        };
        let of = |piece| board.pieces(piece);
        let own = board.colors(color);
        let strong = of(Piece::Pawn) | of(Piece::Rook) | of(Piece::Queen);
        if !(own & strong).is_empty() {
            return true;
        }
        let knights = own & of(Piece::Knight);
        let bishops = own & of(Piece::Bishop);
        if !knights.is_empty() {
            let in_the_way = board.colors(!color) - of(Piece::King) - of(Piece::Queen);
            return knights.len() > 1 || !bishops.is_empty() || !in_the_way.is_empty();
        }
        let on_one_colour = of(Piece::Bishop).is_subset(BitBoard::DARK_SQUARES)
            || of(Piece::Bishop).is_subset(BitBoard::LIGHT_SQUARES);
        let in_the_way = of(Piece::Pawn) | of(Piece::Knight);
        !bishops.is_empty() && (!on_one_colour || !in_the_way.is_empty())
    }
}

fn square(text: &str) -> Result<Square> {
    let found = text.parse().ok().filter(|_| text.len() == 2);
    found.ok_or_else(|| {
        Error::invalid("illegal_move", "expected a square, from a1 to h8")
            .with("found", beginning(text))
    })
}

fn piece(promotion: Promotion) -> Piece {
    match promotion {
        Promotion::Queen => Piece::Queen,
        Promotion::Rook => Piece::Rook,
        Promotion::Bishop => Piece::Bishop,
        Promotion::Knight => Piece::Knight,
    }
}

fn promotion(piece: Piece) -> Option<Promotion> {
    match piece {
        Piece::Queen => Some(Promotion::Queen),
        Piece::Rook => Some(Promotion::Rook),
        Piece::Bishop => Some(Promotion::Bishop),
        Piece::Knight => Some(Promotion::Knight),
        Piece::Pawn | Piece::King => None,
    }
}

fn name(piece: Piece) -> &'static str {
    match piece {
        Piece::Pawn => "pawn",
        Piece::Knight => "knight",
        Piece::Bishop => "bishop",
        Piece::Rook => "rook",
        Piece::Queen => "queen",
        Piece::King => "king",
    }
}
