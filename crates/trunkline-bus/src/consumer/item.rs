//! One delivery while the runtime holds it.

use bytestring::ByteString;
use trunkline_core::{Envelope, TraceContext};

use crate::{Delivery, Receipt};

/// The key within which events stay in order: the event's key, or its id where it has none.
pub(super) type Key = ByteString;

#[derive(Debug)]
pub(super) struct Item {
    /// The event; its topic is the declared one, not the lane's name.
    pub(super) envelope: Envelope,
    pub(super) meta: Meta,
}

#[derive(Debug)]
pub(super) struct Meta {
    pub(super) receipt: Receipt,
    /// The event's own trace, while a span of ours stands in the envelope.
    pub(super) trace: Option<TraceContext>,
    /// Failed attempts so far.
    pub(super) attempts: u32,
    /// It was in a batch that ended without saying which event was at fault: it runs alone.
    pub(super) alone: bool,
    /// Which of its lane's subscriptions it came by, counted.
    pub(super) link: u64,
}

impl Item {
    /// Takes a delivery; `topic` is the declared topic that its lane belongs to, `link` the count of the
    /// lane's subscriptions.
    pub(super) fn new(delivery: Delivery, topic: ByteString, link: u64) -> Self {
        let trace = delivery.envelope.trace;
        Self {
            envelope: Envelope {
                topic,
                ..delivery.envelope
            },
            meta: Meta {
                receipt: delivery.receipt,
                trace,
                attempts: 0,
                alone: false,
                link,
            },
        }
    }

    pub(super) fn key(&self) -> Key {
        key_of(&self.envelope)
    }

    /// Whether it must be a batch of its own.
    pub(super) fn is_single(&self) -> bool {
        self.meta.alone || self.meta.attempts > 0
    }
}

pub(super) fn key_of(envelope: &Envelope) -> Key {
    envelope.key.as_ref().unwrap_or(&envelope.id).clone()
}
