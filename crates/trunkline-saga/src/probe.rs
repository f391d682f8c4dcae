//! Faults on purpose: what a test does to an engine.

use crate::host::At;
use crate::journal::Went;

/// What a test makes of a moment in an instance's life. Every method lets it go on unless it says otherwise.
pub trait Probe: Send + Sync + 'static {
    /// An attempt of a step, or of a compensation, begins.
    fn attempt(&self, _at: &At) -> Fate {
        Fate::GoesOn
    }

    /// A write of an instance has just become durable. `true`: the process forgets the instance at this moment, as if it
    /// had died, and another takes it up from the journal.
    fn crashes_after(&self, _went: &Went) -> bool {
        false
    }
}

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is made as it is.
    GoesOn,
    /// It fails for good before it did anything.
    Fails,
    /// It is made and fails then, so that nobody knows what came of it; for good.
    FailsUnknown,
    /// It is made, and its process dies before that is written; what was not committed by then is undone.
    Dies,
    /// It is made twice, one after the other, and the second counts.
    Twice,
}
