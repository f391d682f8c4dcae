//! The board-game site: players sign up, find each other, play for points or for a stake, and are watched while they do.

mod games;
pub mod page;

pub use games::{Kind, Move, Outcome, Position, Promotion, Reason, Seat};
