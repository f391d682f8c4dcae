//! What is to be written about a cursor, and what becomes of it when it is written.

use std::collections::BTreeSet;

use super::{Cursor, Event, State};
use crate::id::Id;

/// What is to be written about a cursor.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) tenure: u64,
    pub(crate) acknowledge: Vec<Id>,
    /// To be pending, with how often they were delivered.
    pub(crate) claim: Vec<(u32, Id)>,
    /// The group's new position, with how many entries there are up to it.
    pub(crate) position: Option<(Id, Option<u64>)>,
    recounted: usize,
    passed: usize,
}

impl Cursor {
    /// What is to be written. `all` of what is out, too, so that its deliveries are counted.
    pub(crate) fn plan(&self, all: bool) -> Option<Plan> {
        if !self.is_held() {
            return None;
        }
        let settled = |event: &Event| !matches!(event.state, State::Out { .. });
        let passed = if all {
            self.fresh.len()
        } else {
            self.fresh.iter().rposition(settled).map_or(0, |at| at + 1)
        };
        let recounted = self.recount.iter().filter_map(|id| self.pending.get(id));
        let mut claim: Vec<_> = self
            .fresh
            .iter()
            .take(passed)
            .chain(recounted)
            .filter(|event| event.state != State::Done)
            .map(|event| (event.tries, event.id))
            .collect();
        claim.sort_unstable();
        let last = passed.checked_sub(1).and_then(|at| self.fresh.get(at));
        let plan = Plan {
            tenure: self.tenure,
            acknowledge: self.acknowledged.clone(),
            claim,
            position: last.map(|event| (event.id, self.count.map(|count| count + passed as u64))),
            recounted: self.recount.len(),
            passed,
        };
        let is_empty = plan.acknowledge.is_empty() && plan.recounted == 0 && plan.passed == 0;
        (!is_empty).then_some(plan)
    }

    /// What was planned is written.
    pub(crate) fn apply(&mut self, plan: &Plan) {
        if plan.tenure != self.tenure {
            return;
        }
        for id in self.acknowledged.drain(..plan.acknowledge.len()) {
            self.pending.remove(&id);
        }
        self.recount.drain(..plan.recounted);
        let claimed: BTreeSet<Id> = plan.claim.iter().map(|(_, id)| *id).collect();
        for event in self.fresh.drain(..plan.passed) {
            if !claimed.contains(&event.id) {
                continue;
            }
            self.pending.insert(event.id, event);
            if event.state == State::Done {
                self.acknowledged.push(event.id);
            }
        }
        if let Some((position, count)) = plan.position {
            self.committed = position;
            self.count = count;
        }
    }

    /// Whether anything is out that the server does not know of.
    pub(crate) fn has_uncounted(&self) -> bool {
        self.is_held() && !self.fresh.is_empty()
    }
}
