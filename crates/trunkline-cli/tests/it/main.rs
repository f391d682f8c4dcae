//! The command against an admin API of the shapes that `trunkline-console` has.

mod commands;
mod failures;
mod kit;
