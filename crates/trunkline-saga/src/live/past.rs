//! What the journal has of one operation.

use std::fmt;

use bytestring::ByteString;
use trunkline_core::Error;

use crate::journal::{Body, Entry};

/// What the journal has of one operation.
#[derive(Debug, Clone)]
pub(crate) struct Past {
    pub(crate) name: ByteString,
    pub(crate) kind: Kind,
    pub(crate) entries: Vec<Entry>,
}

/// What sort of operation it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Step,
    Wait,
    Child,
    Race,
}

impl Kind {
    /// The sorts that an entry may belong to; none tells them apart.
    pub(super) fn of(body: &Body) -> Option<Self> {
        match body {
            Body::Done { .. } | Body::Tried { .. } | Body::Failed { .. } => Some(Self::Step),
            Body::Waits(_) | Body::Elapsed => Some(Self::Wait),
            Body::Child { .. } => Some(Self::Child),
            Body::Won { .. } => Some(Self::Race),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Step => "step",
            Self::Wait => "wait",
            Self::Child => "child",
            Self::Race => "race",
        })
    }
}

/// The journal has one thing where the code asks for another.
pub(super) fn changed_code(found: String, asked: String, place: &str) -> Error {
    Error::conflict(
        "saga_code_changed",
        format!(
            "the code does not fit the journal: at place {place} the journal has the {found}, and the code now has {asked}; give changed code a version of its own"
        ),
    )
}
