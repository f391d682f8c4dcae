//! The declaration of a flow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use trunkline_core::Envelope;

/// A saga by choreography, declared: its events, what follows each, within which time, and its ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flow {
    name: &'static str,
    key_field: &'static str,
    start: Option<&'static str>,
    expectations: Vec<Expectation>,
    succeeds_on: BTreeSet<&'static str>,
    fails_on: BTreeSet<&'static str>,
}

/// After one event, one of several has to follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Expectation {
    /// The event that raises it.
    pub after: &'static str,
    /// The events that meet it, any one of them.
    pub one_of: Vec<&'static str>,
    /// How long after the first event's time, at most.
    #[serde(serialize_with = "seconds")]
    pub within: Duration,
}

fn seconds<S: serde::Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(value.as_secs_f64())
}

/// Why a declaration makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlowError {
    /// No event starts it.
    #[error("the flow `{0}` has no starting event: call starts_with")]
    NoStart(&'static str),
    /// No event ends it.
    #[error("the flow `{0}` has no end: call succeeds_on or fails_on")]
    NoEnd(&'static str),
    /// An event can never occur in the flow.
    #[error("the flow `{flow}` expects something after `{event}`, which nothing in it leads to")]
    Unreachable {
        /// The flow.
        flow: &'static str,
        /// The event that nothing leads to.
        event: &'static str,
    },
    /// An event neither ends the flow nor has anything expected after it.
    #[error("in the flow `{flow}`, `{event}` neither ends it nor leads on")]
    DeadEnd {
        /// The flow.
        flow: &'static str,
        /// The event that leads nowhere.
        event: &'static str,
    },
}

impl Flow {
    /// A flow whose instances are told apart by a field of its events' data, such as `order_id`.
    pub fn named(name: &'static str, key_field: &'static str) -> Self {
        Self {
            name,
            key_field,
            start: None,
            expectations: Vec::new(),
            succeeds_on: BTreeSet::new(),
            fails_on: BTreeSet::new(),
        }
    }

    /// The event that starts an instance.
    #[must_use]
    pub fn starts_with(mut self, event_type: &'static str) -> Self {
        self.start = Some(event_type);
        self
    }

    /// After `event_type`, one of `one_of` has to follow within a time. Several calls for one event are
    /// several expectations, all of which have to be met.
    #[must_use]
    pub fn after(
        mut self,
        event_type: &'static str,
        within: Duration,
        one_of: &[&'static str],
    ) -> Self {
        self.expectations.push(Expectation {
            after: event_type,
            one_of: one_of.to_vec(),
            within,
        });
        self
    }

    /// An event with which an instance ends well, once nothing more is expected.
    #[must_use]
    pub fn succeeds_on(mut self, event_type: &'static str) -> Self {
        self.succeeds_on.insert(event_type);
        self
    }

    /// An event with which an instance ends badly but in order, once nothing more is expected.
    #[must_use]
    pub fn fails_on(mut self, event_type: &'static str) -> Self {
        self.fails_on.insert(event_type);
        self
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The event that starts an instance.
    pub fn start(&self) -> Option<&'static str> {
        self.start
    }

    /// What has to follow what.
    pub fn expectations(&self) -> &[Expectation] {
        &self.expectations
    }

    /// Whether an instance ends well with this event.
    pub fn is_success(&self, event_type: &str) -> bool {
        self.succeeds_on.contains(event_type)
    }

    /// Whether an instance ends badly with this event.
    pub fn is_failure(&self, event_type: &str) -> bool {
        self.fails_on.contains(event_type)
    }

    /// Every event type that the flow names.
    pub fn event_types(&self) -> BTreeSet<&'static str> {
        let mut types: BTreeSet<_> = self.start.into_iter().collect();
        for expectation in &self.expectations {
            types.insert(expectation.after);
            types.extend(&expectation.one_of);
        }
        types.extend(&self.succeeds_on);
        types.extend(&self.fails_on);
        types
    }

    /// The business key of an event of this flow, read from its data: a text or an integer.
    pub fn business_key(&self, envelope: &Envelope) -> Option<String> {
        if !self.event_types().contains(&*envelope.event_type) {
            return None;
        }
        let data: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(&envelope.data).ok()?;
        match data.get(self.key_field)? {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// Checks that the declaration makes sense: it starts, it ends, and every event lies on a way between.
    ///
    /// # Errors
    /// The first thing that does not, by name.
    pub fn check(&self) -> Result<(), FlowError> {
        let start = self.start.ok_or(FlowError::NoStart(self.name))?;
        if self.succeeds_on.is_empty() && self.fails_on.is_empty() {
            return Err(FlowError::NoEnd(self.name));
        }
        let mut reachable = BTreeSet::from([start]);
        loop {
            let before = reachable.len();
            for expectation in &self.expectations {
                if reachable.contains(expectation.after) {
                    reachable.extend(&expectation.one_of);
                }
            }
            if reachable.len() == before {
                break;
            }
        }
        for event in self.event_types() {
            if !reachable.contains(event) {
                return Err(FlowError::Unreachable {
                    flow: self.name,
                    event,
                });
            }
            let leads_on = self.expectations.iter().any(|e| e.after == event);
            if !leads_on && !self.is_success(event) && !self.is_failure(event) {
                return Err(FlowError::DeadEnd {
                    flow: self.name,
                    event,
                });
            }
        }
        Ok(())
    }
}
