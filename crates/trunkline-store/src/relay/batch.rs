//! A batch on its way to the bus.

use trunkline_core::{ByteString, Envelope};
use trunkline_telemetry::Span;

use crate::outbox::OutboxRow;

/// What is being sent: the rows, their envelopes and their spans, side by side.
#[derive(Debug, Default)]
pub(super) struct Batch {
    rows: Vec<OutboxRow>,
    envelopes: Vec<Envelope>,
    spans: Vec<Span>,
    /// They come from the held events and not from the outbox.
    pub(super) held: bool,
}

impl Batch {
    pub(super) fn new(held: bool) -> Self {
        Self {
            held,
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, row: OutboxRow, envelope: Envelope, span: Span) {
        self.rows.push(row);
        self.envelopes.push(envelope);
        self.spans.push(span);
    }

    pub(super) fn rows(&self) -> &[OutboxRow] {
        &self.rows
    }

    pub(super) fn envelopes(&self) -> &[Envelope] {
        &self.envelopes
    }

    pub(super) fn first_span(&mut self) -> Option<&mut Span> {
        self.spans.first_mut()
    }

    /// Takes the first `count`, which are sent; their spans end.
    pub(super) fn take(&mut self, count: usize) -> Vec<OutboxRow> {
        self.envelopes.drain(..count);
        self.spans.drain(..count);
        self.rows.drain(..count).collect()
    }

    /// An event of another key than `key`.
    pub(super) fn other(&self, key: &ByteString) -> Option<&Envelope> {
        let mut both = self.rows.iter().zip(&self.envelopes);
        both.find(|(row, _)| row.key != *key)
            .map(|(_, envelope)| envelope)
    }

    /// Leaves out everything of `key`.
    pub(super) fn drop_key(&mut self, key: &ByteString) {
        let keep: Vec<bool> = self.rows.iter().map(|row| row.key != *key).collect();
        retain(&mut self.rows, &keep);
        retain(&mut self.envelopes, &keep);
        retain(&mut self.spans, &keep);
    }
}

fn retain<T>(all: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    all.retain(|_| keep.next().copied().unwrap_or(false));
}
