//! What travels with every piece of work.

use bytestring::ByteString;
use jiff::Timestamp;

use crate::TraceContext;

/// What travels with a request or an event through every hop: trace, correlation, cause, user and
/// the time by which the work must be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The span that this work is.
    pub trace: TraceContext,
    /// The id of the whole business flow (`x-correlation-id`, CloudEvents `correlationid`).
    pub correlation_id: ByteString,
    /// The id of the event that caused this work, if an event did.
    pub causation_id: Option<ByteString>,
    /// The user on whose behalf it is done.
    pub user_id: Option<ByteString>,
    /// When whoever waits for it stops waiting.
    pub deadline: Option<Timestamp>,
}
