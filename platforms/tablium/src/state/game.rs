//! A game, and the events that make it.

use serde::{Deserialize, Serialize};
use trunkline::{Aggregate, EventType, Timestamp};

use crate::Points;
use crate::games::{Kind, Move, Outcome, Position, Reason, Seat};
use crate::view::{ClockView, GameView, MoveView, PlayerView, Status};

/// A player.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Player {
    /// The user.
    pub user_id: String,
    /// Their name when they sat down.
    pub username: String,
}

/// Something that happened to a game.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields are those of the state")]
pub enum GameEvent {
    /// Somebody opened a table.
    Created {
        kind: Kind,
        host: Player,
        host_seat: Seat,
        /// Who alone may join.
        opponent: Option<String>,
        stake: Option<Points>,
        initial_ms: u64,
        increment_ms: u64,
        private: bool,
    },
    /// Somebody took the other place.
    Joined { player: Player, match_id: String },
    /// They had to give it up before it started.
    TurnedAway { user_id: String },
    /// The clock runs.
    Started { at: Timestamp },
    /// Somebody moved, and had so much time left then.
    Moved {
        by: Seat,
        played: Move,
        notation: String,
        left_ms: u64,
        at: Timestamp,
    },
    /// Somebody offered a draw.
    DrawOffered { by: Seat },
    /// Somebody declined it.
    DrawDeclined { by: Seat },
    /// Somebody gave up.
    Resigned { by: Seat },
    /// Somebody's time ran out.
    TimedOut { by: Seat },
    /// It is over, or was called off.
    Completed {
        outcome: Outcome,
        players: Vec<Player>,
    },
}

/// A game, as its events make it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Game {
    pub(super) position: Position,
    pub(super) status: Status,
    pub(super) host_id: String,
    pub(super) opponent: Option<String>,
    pub(super) first: Option<Sitting>,
    pub(super) second: Option<Sitting>,
    pub(super) notations: Vec<MoveView>,
    pub(super) outcome: Option<Outcome>,
    pub(super) stake: Option<Points>,
    pub(super) initial_ms: u64,
    pub(super) increment_ms: u64,
    pub(super) running_since: Option<Timestamp>,
    pub(super) draw_offer: Option<Seat>,
    pub(super) private: bool,
    pub(super) match_id: Option<String>,
}

/// Who sits somewhere, and what their clock showed when it was last stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Sitting {
    pub(super) player: Player,
    pub(super) clock_ms: u64,
}

impl Default for Game {
    fn default() -> Self {
        Self {
            position: Position::new(Kind::ConnectFour),
            status: Status::default(),
            host_id: String::new(),
            opponent: None,
            first: None,
            second: None,
            notations: Vec::new(),
            outcome: None,
            stake: None,
            initial_ms: 0,
            increment_ms: 0,
            running_since: None,
            draw_offer: None,
            private: false,
            match_id: None,
        }
    }
}

impl Aggregate for Game {
    type Event = GameEvent;
    const KIND: &'static str = "game";
    const EVENTS: &'static [EventType] = &[
        EventType::new("created"),
        EventType::new("joined"),
        EventType::new("turned_away"),
        EventType::new("started"),
        EventType::new("moved"),
        EventType::new("draw_offered"),
        EventType::new("draw_declined"),
        EventType::new("resigned"),
        EventType::new("timed_out"),
        EventType::new("completed"),
    ];
    const SNAPSHOT_EVERY: u32 = 40;

    fn apply(&mut self, event: &GameEvent) {
        match event {
            GameEvent::Created { .. } => self.open(event),
            GameEvent::Joined { player, match_id } => {
                self.match_id = Some(match_id.clone());
                let seat = self.free_seat();
                self.seat(seat, player);
            }
            GameEvent::TurnedAway { user_id } => self.turn_away(user_id),
            GameEvent::Started { at } => {
                self.status = Status::Active;
                self.running_since = Some(*at);
            }
            GameEvent::Moved { .. } => self.moved(event),
            GameEvent::DrawOffered { by } => self.draw_offer = Some(*by),
            GameEvent::DrawDeclined { .. } | GameEvent::Resigned { .. } => self.draw_offer = None,
            GameEvent::TimedOut { by } => {
                if let Some(sitting) = self.place(*by) {
                    sitting.clock_ms = 0;
                }
            }
            GameEvent::Completed { outcome, .. } => self.end(*outcome),
        }
    }
}

impl Game {
    fn open(&mut self, event: &GameEvent) {
        let GameEvent::Created {
            kind,
            host,
            host_seat,
            opponent,
            stake,
            initial_ms,
            increment_ms,
            private,
        } = event
        else {
            return;
        };
        self.position = Position::new(*kind);
        self.host_id.clone_from(&host.user_id);
        self.opponent.clone_from(opponent);
        self.stake = *stake;
        self.initial_ms = *initial_ms;
        self.increment_ms = *increment_ms;
        self.private = *private;
        self.seat(*host_seat, host);
    }

    fn seat(&mut self, seat: Seat, player: &Player) {
        let sitting = Some(Sitting {
            player: player.clone(),
            clock_ms: self.initial_ms,
        });
        match seat {
            Seat::First => self.first = sitting,
            Seat::Second => self.second = sitting,
        }
    }

    fn free_seat(&self) -> Seat {
        if self.first.is_none() {
            Seat::First
        } else {
            Seat::Second
        }
    }

    fn turn_away(&mut self, user_id: &str) {
        self.match_id = None;
        match self.seat_of(user_id) {
            Some(Seat::First) => self.first = None,
            Some(Seat::Second) => self.second = None,
            None => {}
        }
    }

    fn moved(&mut self, event: &GameEvent) {
        let GameEvent::Moved {
            by,
            played,
            notation,
            left_ms,
            at,
        } = event
        else {
            return;
        };
        // It was legal when it was appended, and the rules don't change.
        if let Err(error) = self.position.play(*by, played) {
            tracing::error!(%error, "a move that was played is refused by the rules");
            return;
        }
        let (notation, by) = (notation.clone(), *by);
        self.notations.push(MoveView { notation, by });
        self.draw_offer = self.draw_offer.filter(|offer| *offer == by);
        self.running_since = Some(*at);
        if let Some(sitting) = self.place(by) {
            sitting.clock_ms = *left_ms;
        }
    }

    fn end(&mut self, outcome: Outcome) {
        self.status = match outcome.reason {
            Reason::Cancelled => Status::Cancelled,
            _ => Status::Completed,
        };
        self.outcome = Some(outcome);
        self.running_since = None;
        self.draw_offer = None;
    }

    fn place(&mut self, seat: Seat) -> Option<&mut Sitting> {
        match seat {
            Seat::First => self.first.as_mut(),
            Seat::Second => self.second.as_mut(),
        }
    }

    pub(super) fn sitting(&self, seat: Seat) -> Option<&Sitting> {
        match seat {
            Seat::First => self.first.as_ref(),
            Seat::Second => self.second.as_ref(),
        }
    }

    pub(super) fn seat_of(&self, user_id: &str) -> Option<Seat> {
        let sits = |seat: &Seat| {
            let sitting = self.sitting(*seat);
            sitting.is_some_and(|sitting| sitting.player.user_id == user_id)
        };
        [Seat::First, Seat::Second].into_iter().find(sits)
    }

    /// Whose turn it is, while it is played.
    pub(super) fn turn(&self) -> Option<Seat> {
        let is_played = self.status == Status::Active;
        is_played.then(|| self.position.turn()).flatten()
    }

    pub(super) fn players(&self) -> Vec<Player> {
        let sitting = [&self.first, &self.second].into_iter().flatten();
        sitting.map(|sitting| sitting.player.clone()).collect()
    }

    /// Who may see it: everybody, or those who play it or are asked to.
    pub(super) fn is_visible_to(&self, user_id: &str) -> bool {
        let is_asked = self.opponent.as_deref() == Some(user_id);
        !self.private || is_asked || self.seat_of(user_id).is_some()
    }

    /// The game as everybody sees it.
    pub(super) fn view(&self, game_id: &str, version: u64) -> GameView {
        let players = [Seat::First, Seat::Second].into_iter().filter_map(|seat| {
            let sitting = self.sitting(seat)?;
            Some(PlayerView {
                user_id: sitting.player.user_id.clone(),
                username: sitting.player.username.clone(),
                seat,
                clock_ms: sitting.clock_ms,
            })
        });
        let turn = self.turn();
        GameView {
            game_id: game_id.to_owned(),
            kind: self.position.kind(),
            version,
            status: self.status,
            players: players.collect(),
            turn,
            board: self.position.board(),
            legal_moves: turn.map_or_else(Vec::new, |_| self.position.legal_moves()),
            moves: self.notations.clone(),
            last_move: self.position.moves().last().cloned(),
            outcome: self.outcome,
            stake: self.stake,
            clock: ClockView {
                initial_ms: self.initial_ms,
                increment_ms: self.increment_ms,
                running_since: self.running_since,
            },
            draw_offer: self.draw_offer,
            private: self.private,
        }
    }
}
