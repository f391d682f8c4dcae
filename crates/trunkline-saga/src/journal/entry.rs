//! One thing that an instance did.

use bytestring::ByteString;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trunkline_core::{Error, ErrorKind, Retry, report};

use crate::Data;

/// One thing that an instance did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place in the instance's journal: 0, 1, 2.
    pub seq: u64,
    /// Which operation of the function it belongs to, counted in the order in which they are made: `2`, and `hotel/0` in a
    /// branch.
    pub place: ByteString,
    /// The operation's name: `reserve`.
    pub name: ByteString,
    /// When that began.
    pub began: Timestamp,
    /// When it was over.
    pub at: Timestamp,
    /// What it was.
    pub body: Body,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// A step was done.
    Done {
        /// What it was given, where the code says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Data>,
        /// What it gave.
        output: Data,
        /// At which attempt, from 1.
        attempt: u32,
        /// The person who said so in its place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<ByteString>,
    },
    /// An attempt of a step failed, and another follows.
    Tried {
        /// Which attempt, from 1.
        attempt: u32,
        /// Why.
        error: Fault,
        /// When the next one is due.
        next: Timestamp,
    },
    /// A step failed for good.
    Failed {
        /// What it was given, where the code says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Data>,
        /// Why.
        error: Fault,
        /// How many attempts there were.
        attempt: u32,
    },
    /// A wait began.
    Waits(Wait),
    /// The time of a wait had come.
    Elapsed,
    /// A wait ended with a message.
    Received {
        /// Which: it is read by that.
        message: ByteString,
        /// What it says.
        data: Data,
    },
    /// A child was started.
    Child {
        /// Which.
        id: uuid::Uuid,
    },
    /// One of several was the first.
    Won {
        /// Its place among them, from 0.
        index: usize,
    },
    /// From here on everything fails: the instance was cancelled.
    Cancelled {
        /// The message that said so.
        message: ByteString,
        /// Why.
        error: Fault,
    },
    /// What the operation at this place had done is undone.
    Undone {
        /// At which attempt, from 1.
        attempt: u32,
        /// The person who said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<ByteString>,
    },
    /// It could not be undone this time.
    UndoTried {
        /// Which attempt, from 1.
        attempt: u32,
        /// Why.
        error: Fault,
        /// When the next one is due.
        next: Timestamp,
    },
}

/// What a wait waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The name of a message, or nothing but time.
    pub message: Option<ByteString>,
    /// When it is over in any case.
    pub until: Option<Timestamp>,
}

/// An error, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What sort: the name of its [`ErrorKind`].
    pub kind: ByteString,
    /// Whether it may be tried again: `permanent`, `transient`, `unknown`.
    pub retry: ByteString,
    /// The stable code.
    pub code: ByteString,
    /// What went wrong, with its causes.
    pub message: ByteString,
}

const KINDS: [(ErrorKind, &str); 12] = [
    (ErrorKind::InvalidInput, "invalid_input"),
    (ErrorKind::Unauthenticated, "unauthenticated"),
    (ErrorKind::PermissionDenied, "permission_denied"),
    (ErrorKind::NotFound, "not_found"),
    (ErrorKind::Conflict, "conflict"),
    (ErrorKind::TooLarge, "too_large"),
    (ErrorKind::Overloaded, "overloaded"),
    (ErrorKind::Unavailable, "unavailable"),
    (ErrorKind::DeadlineExceeded, "deadline_exceeded"),
    (ErrorKind::Corrupt, "corrupt"),
    (ErrorKind::Unsupported, "unsupported"),
    (ErrorKind::Internal, "internal"),
];

const RETRIES: [(Retry, &str); 3] = [
    (Retry::Permanent, "permanent"),
    (Retry::Transient, "transient"),
    (Retry::Unknown, "unknown"),
];

fn name_of(retry: Retry) -> ByteString {
    let known = RETRIES.iter().find(|(known, _)| *known == retry);
    ByteString::from_static(known.map_or("unknown", |(_, name)| name))
}

impl Fault {
    /// What the journal keeps of an error.
    pub fn of(error: &Error) -> Self {
        let kind = KINDS.iter().find(|(kind, _)| *kind == error.kind());
        Self {
            kind: ByteString::from_static(kind.map_or("internal", |(_, name)| name)),
            retry: name_of(error.retry()),
            code: error.code().to_owned().into(),
            message: report(error).to_string().into(),
        }
    }

    /// The same with another answer to whether it may be tried again.
    #[must_use]
    pub(crate) fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = name_of(retry);
        self
    }

    /// The error again. A kind that this version does not know is `Internal`.
    pub fn error(&self) -> Error {
        let kind = KINDS.iter().find(|(_, name)| self.kind == *name);
        let retry = RETRIES.iter().find(|(_, name)| self.retry == *name);
        Error::new(
            kind.map_or(ErrorKind::Internal, |(kind, _)| *kind),
            self.code.to_string(),
            self.message.to_string(),
        )
        .with_retry(retry.map_or(Retry::Unknown, |(retry, _)| *retry))
    }
}
