//! The newest spans, in memory.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::{SpanRecord, SpanSink};

/// Keeps the newest spans in memory, for the admin API and for tests; the oldest go first.
#[derive(Debug)]
pub struct Ring {
    spans: Mutex<VecDeque<SpanRecord>>,
    spans_max: usize,
}

impl Ring {
    /// A ring of at most `spans_max` spans.
    pub fn new(spans_max: usize) -> Self {
        Self {
            spans: Mutex::default(),
            spans_max,
        }
    }

    /// All spans that it has, in the order in which they ended.
    pub fn all(&self) -> Vec<SpanRecord> {
        self.spans.lock().iter().cloned().collect()
    }

    /// The spans of a trace, in the order in which they ended.
    pub fn spans(&self, trace_id: u128) -> Vec<SpanRecord> {
        let spans = self.spans.lock();
        spans
            .iter()
            .filter(|span| span.context.trace_id == trace_id)
            .cloned()
            .collect()
    }
}

impl SpanSink for Ring {
    fn record(&self, span: &SpanRecord) {
        let mut spans = self.spans.lock();
        if spans.len() >= self.spans_max {
            spans.pop_front();
        }
        spans.push_back(span.clone());
    }
}
