//! What a consumer tells of itself, and what its dead letters are asked.

use bytestring::ByteString;
use serde::{Deserialize, Serialize};

/// What a subscription does right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionState {
    /// It takes events as they come.
    Running,
    /// It was paused: what is being handled ends, nothing new begins.
    Paused,
    /// The transport failed; it subscribes again, with growing pauses.
    Reconnecting,
    /// It ends: what is being handled ends, the rest goes back.
    Draining,
    /// It has ended.
    Stopped,
}

/// How a subscription stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SubscriptionStatus {
    /// The durable group.
    pub group: ByteString,
    /// The service.
    pub service: ByteString,
    /// The lanes that it reads, by their names on the transport.
    pub topics: Vec<ByteString>,
    /// What it does right now.
    pub state: SubscriptionState,
    /// How many events it has not settled yet; none while the transport can't say.
    pub lag: Option<u64>,
    /// How many events are being handled.
    pub in_flight: usize,
    /// How many events are held ready, or wait behind another of their key.
    pub queued: usize,
    /// How many keys wait to be tried again.
    pub retrying_keys: usize,
    /// How many keys are parked.
    pub parked_keys: usize,
    /// Events handled since it started.
    pub handled: u64,
    /// Failed attempts since it started.
    pub failed: u64,
    /// Letters parked since it started, those that queue behind another included.
    pub parked: u64,
}

/// Which dead letters to replay, and how.
///
/// The filter chooses keys: each key that has a letter which matches is replayed from its first
/// letter on, in order, until a letter fails or none is left. Without a filter all keys are replayed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayRequest {
    /// This key.
    pub key: Option<ByteString>,
    /// Keys with a letter of this event type.
    pub event_type: Option<ByteString>,
    /// The key of this letter.
    pub id: Option<ByteString>,
    /// At most so many letters a second; as fast as it goes without.
    pub rate_per_second: Option<u32>,
    /// Only tell what would pass: the handler runs, and what it does is undone.
    pub dry_run: bool,
    /// Replay even what was replayed in vain too often.
    pub force: bool,
}

/// What a replay did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReplayReport {
    /// Whether it only told what would pass.
    pub dry_run: bool,
    /// Whether it was interrupted before its end; run it again to go on.
    pub interrupted: bool,
    /// Keys that it took up.
    pub keys: usize,
    /// Keys that are free again.
    pub freed: usize,
    /// Letters handled, or that would be.
    pub replayed: usize,
    /// Letters that failed again, or would; their keys stay parked.
    pub failed: usize,
    /// Letters that the loop guard held back; edit them, discard them or use force.
    pub refused: usize,
    /// What became of each letter, in order: the first 1,000.
    pub letters: Vec<ReplayedLetter>,
}

/// What became of one letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplayedLetter {
    /// The letter.
    pub id: ByteString,
    /// Its key.
    pub key: ByteString,
    /// Its event.
    pub event_id: ByteString,
    /// Its event's type.
    pub event_type: ByteString,
    /// How it ended.
    pub outcome: ReplayOutcome,
    /// Why it failed or was refused.
    pub error: Option<String>,
}

/// How the replay of one letter ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayOutcome {
    /// It was handled.
    Handled,
    /// It would be handled: that was tried, and undone.
    WouldPass,
    /// It would fail again: that was tried, and undone.
    WouldFail,
    /// It would wait behind a letter of its key that would fail.
    WouldWait,
    /// It would run; how that ends was not tried.
    WouldRun,
    /// It failed again.
    Failed,
    /// The loop guard held it back.
    Refused,
}
