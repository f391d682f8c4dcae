//! What a flow's events tell so far.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use trunkline_core::Envelope;

use crate::{Expectation, Flow};

/// The story of one instance of a flow.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Story {
    /// The flow's name.
    pub flow: &'static str,
    /// The business key of this instance, as far as an event told it.
    pub key: Option<String>,
    /// The correlation ids of its events; one, unless services broke the chain.
    pub correlation_ids: BTreeSet<String>,
    /// Where it stands.
    pub state: FlowState,
    /// Its events so far, each after the one that caused it.
    pub events: Vec<Told>,
    /// What is still expected, the earliest due first.
    pub expected: Vec<Awaited>,
    /// What holds it up.
    pub stuck_on: Vec<Obstacle>,
}

/// Where an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowState {
    /// Its starting event is not among the events: it is older than what is kept, or not begun.
    Unknown,
    /// Something is expected, and there is time.
    Running,
    /// Something is overdue, or an obstacle holds it up.
    Stuck,
    /// It ended well.
    Succeeded,
    /// It ended badly, in order.
    Failed,
}

/// One event of the story.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Told {
    /// The event's id.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The service that published it.
    pub source: String,
    /// When.
    pub time: Timestamp,
    /// The id of the event that caused it, if an event did.
    pub caused_by: Option<String>,
    /// How many causes lie before it within the story.
    pub depth: usize,
    /// Whether the flow's declaration names it; others share its correlation id only.
    pub declared: bool,
}

/// One thing still expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Awaited {
    /// Any one of these events.
    pub one_of: Vec<&'static str>,
    /// The type of the event after which it is expected.
    pub after: &'static str,
    /// The id of that event.
    pub after_id: String,
    /// By when.
    pub due: Timestamp,
    /// Whether that time has passed.
    pub overdue: bool,
}

/// What can hold a flow up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// The event that can't go on, or that something was to follow.
    pub event_id: String,
    /// What sort of obstacle.
    pub kind: ObstacleKind,
    /// The group or service where it lies.
    pub at: String,
    /// Why, for people.
    pub reason: String,
}

/// What sort of obstacle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ObstacleKind {
    /// A handler could not handle the event: it is a dead letter, or waits behind one.
    DeadLetter,
    /// The event could not be sent: it is set aside in an outbox.
    Outbox,
    /// Nothing failed that is known of, and what should follow is overdue.
    Overdue,
}

impl Flow {
    /// Tells the story that `events` make up at the time `now`; `obstacles` are the dead letters and stuck
    /// outbox rows known, of which those that touch the story are taken. Events may come in any order and
    /// repeated.
    pub fn story(&self, events: &[Envelope], obstacles: &[Obstacle], now: Timestamp) -> Story {
        let by_id: BTreeMap<&str, &Envelope> = events.iter().map(|e| (&*e.id, e)).collect();
        let expected = self.awaited(&by_id, now);
        let mut stuck_on: Vec<Obstacle> = obstacles
            .iter()
            .filter(|o| by_id.contains_key(&*o.event_id))
            .cloned()
            .collect();
        for awaited in expected.iter().filter(|awaited| awaited.overdue) {
            if stuck_on
                .iter()
                .all(|obstacle| obstacle.event_id != awaited.after_id)
            {
                stuck_on.push(Obstacle {
                    event_id: awaited.after_id.clone(),
                    kind: ObstacleKind::Overdue,
                    at: awaited.one_of.join(" or "),
                    reason: format!(
                        "{} should have followed {} by {}",
                        awaited.one_of.join(" or "),
                        awaited.after,
                        awaited.due
                    ),
                });
            }
        }
        Story {
            flow: self.name(),
            key: events.iter().find_map(|event| self.business_key(event)),
            correlation_ids: events
                .iter()
                .map(|e| e.correlation_id.to_string())
                .collect(),
            state: self.state(&by_id, &expected, &stuck_on),
            events: self.tell(&by_id),
            expected,
            stuck_on,
        }
    }

    fn state(
        &self,
        by_id: &BTreeMap<&str, &Envelope>,
        expected: &[Awaited],
        stuck_on: &[Obstacle],
    ) -> FlowState {
        let has = |test: &dyn Fn(&str) -> bool| by_id.values().any(|e| test(&e.event_type));
        if !has(&|event_type| Some(event_type) == self.start()) {
            FlowState::Unknown
        } else if !stuck_on.is_empty() {
            FlowState::Stuck
        } else if !expected.is_empty() {
            FlowState::Running
        } else if has(&|event_type| self.is_failure(event_type)) {
            FlowState::Failed
        } else if has(&|event_type| self.is_success(event_type)) {
            FlowState::Succeeded
        } else {
            FlowState::Running
        }
    }

    fn awaited(&self, by_id: &BTreeMap<&str, &Envelope>, now: Timestamp) -> Vec<Awaited> {
        let mut awaited = Vec::new();
        for event in by_id.values() {
            for expectation in self.expectations() {
                if *event.event_type == *expectation.after && !met(expectation, event, by_id) {
                    let due = event.time.checked_add(expectation.within);
                    let due = due.unwrap_or(Timestamp::MAX);
                    awaited.push(Awaited {
                        one_of: expectation.one_of.clone(),
                        after: expectation.after,
                        after_id: event.id.to_string(),
                        due,
                        overdue: due < now,
                    });
                }
            }
        }
        awaited.sort_by(|a, b| (a.due, &a.after_id).cmp(&(b.due, &b.after_id)));
        awaited
    }

    fn tell(&self, by_id: &BTreeMap<&str, &Envelope>) -> Vec<Told> {
        let declared = self.event_types();
        let mut told: Vec<Told> = by_id
            .values()
            .map(|event| Told {
                id: event.id.to_string(),
                event_type: event.event_type.to_string(),
                source: event.source.to_string(),
                time: event.time,
                caused_by: event.causation_id.as_ref().map(ToString::to_string),
                depth: causes(event, by_id).len(),
                declared: declared.contains(&*event.event_type),
            })
            .collect();
        // A cause lies less deep than its effect, so depth breaks the tie of two clocks that agree.
        told.sort_by(|a, b| (a.time, a.depth, &a.id).cmp(&(b.time, b.depth, &b.id)));
        told
    }
}

/// Whether some event of the wanted types follows from `event`. One that came about in another way counts too (an
/// order fails because its time was up, before its payment fails); one that follows from another such event does not.
fn met(expectation: &Expectation, event: &Envelope, by_id: &BTreeMap<&str, &Envelope>) -> bool {
    by_id.values().any(|candidate| {
        let wanted =
            candidate.id != event.id && expectation.one_of.contains(&&*candidate.event_type);
        wanted && {
            let causes = causes(candidate, by_id);
            causes.iter().any(|cause| cause.id == event.id)
                || causes
                    .iter()
                    .all(|cause| *cause.event_type != *expectation.after)
        }
    })
}

/// The chain of causes of `event` within the story, nearest first; a cycle ends it.
fn causes<'a>(event: &Envelope, by_id: &BTreeMap<&str, &'a Envelope>) -> Vec<&'a Envelope> {
    let mut chain: Vec<&Envelope> = Vec::new();
    let mut next = event.causation_id.as_deref().and_then(|id| by_id.get(id));
    while let Some(cause) = next {
        if cause.id == event.id || chain.iter().any(|seen| seen.id == cause.id) {
            break;
        }
        chain.push(cause);
        next = cause.causation_id.as_deref().and_then(|id| by_id.get(id));
    }
    chain
}
