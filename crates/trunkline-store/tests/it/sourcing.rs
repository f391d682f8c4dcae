//! Event-sourced aggregates: a board game, its events, and the tables that are made of them.

mod crash;
mod game;
mod history;
mod projections;
mod reading;
mod writing;
