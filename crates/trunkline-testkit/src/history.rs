//! What happened, checked afterwards: was anything lost, doubled, out of order or handled by two at once?

mod group;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use parking_lot::Mutex;
use trunkline_core::{ByteString, Envelope};

use self::group::GroupCheck;

/// A record of what was published and how it was handled, by any number of tasks.
#[derive(Debug, Default)]
pub struct History {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<Record>,
    /// The different events that each group has handled.
    done: HashMap<ByteString, HashSet<ByteString>>,
}

#[derive(Debug, Clone)]
enum Record {
    Published {
        key: ByteString,
        id: ByteString,
    },
    Began {
        group: ByteString,
        key: ByteString,
        id: ByteString,
    },
    Ended {
        group: ByteString,
        key: ByteString,
        id: ByteString,
        done: bool,
    },
}

/// What a history is held against.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The groups, each of which shall have handled everything.
    pub groups: Vec<ByteString>,
    /// How many more times than once events may have been handled, summed over a group.
    pub duplicates_max: usize,
    /// Whether a key is handled in the order in which it was published: no event before all its
    /// predecessors have been handled at least once.
    pub ordered: bool,
    /// Whether a key is handled by one at a time within a group.
    pub exclusive: bool,
}

impl Expected {
    /// All of it, exactly once, for these groups.
    pub fn exactly_once(groups: &[&str]) -> Self {
        let groups = groups
            .iter()
            .map(|group| ByteString::from(*group))
            .collect();
        Self {
            groups,
            duplicates_max: 0,
            ordered: true,
            exclusive: true,
        }
    }

    /// The same, but events may come again `duplicates_max` times.
    #[must_use]
    pub fn with_duplicates(self, duplicates_max: usize) -> Self {
        Self {
            duplicates_max,
            ..self
        }
    }
}

/// How a history differs from what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A group never handled an event.
    Lost {
        /// The group.
        group: ByteString,
        /// The event.
        id: ByteString,
    },
    /// A group handled an event that nobody published.
    Invented {
        /// The group.
        group: ByteString,
        /// The event.
        id: ByteString,
    },
    /// A group handled events again more often than it may.
    Duplicates {
        /// The group.
        group: ByteString,
        /// How often.
        count: usize,
    },
    /// A group handled an event before an earlier one of its key.
    Order {
        /// The group.
        group: ByteString,
        /// The event that came too early.
        id: ByteString,
        /// The event that was due.
        due: ByteString,
    },
    /// A group handled two events of a key at the same time.
    Overlap {
        /// The group.
        group: ByteString,
        /// The event that was being handled.
        id: ByteString,
        /// The event that began meanwhile.
        other: ByteString,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { group, id } => write!(f, "{group} never handled {id}"),
            Self::Invented { group, id } => write!(f, "{group} handled {id}, never published"),
            Self::Duplicates { group, count } => write!(f, "{group} handled {count} duplicates"),
            Self::Order { group, id, due } => write!(f, "{group} handled {id} before {due}"),
            Self::Overlap { group, id, other } => {
                write!(f, "{group} began {other} while {id} was being handled")
            }
        }
    }
}

impl History {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// An event was accepted by the transport.
    pub fn published(&self, event: &Envelope) {
        let (key, id) = names(event);
        self.state
            .lock()
            .records
            .push(Record::Published { key, id });
    }

    /// A group begins to handle an event.
    pub fn began(&self, group: &str, event: &Envelope) {
        let (key, id) = names(event);
        self.state.lock().records.push(Record::Began {
            group: group.into(),
            key,
            id,
        });
    }

    /// A group has handled an event, or failed to.
    pub fn ended(&self, group: &str, event: &Envelope, done: bool) {
        let (key, id) = names(event);
        let group = ByteString::from(group);
        let mut state = self.state.lock();
        if done {
            state
                .done
                .entry(group.clone())
                .or_default()
                .insert(id.clone());
        }
        state.records.push(Record::Ended {
            group,
            key,
            id,
            done,
        });
    }

    /// How many different events a group has handled.
    pub fn handled(&self, group: &str) -> usize {
        self.state.lock().done.get(group).map_or(0, HashSet::len)
    }

    /// The ids that a group has handled of a key, in order, each time.
    pub fn of_key(&self, group: &str, key: &str) -> Vec<ByteString> {
        let state = self.state.lock();
        let done = state.records.iter().filter_map(|record| match record {
            Record::Ended {
                group: of,
                key: at,
                id,
                done: true,
            } if of == group && at == key => Some(id.clone()),
            _ => None,
        });
        done.collect()
    }

    /// How the history differs from what was expected; nothing if it does not.
    pub fn check(&self, expected: &Expected) -> Vec<Violation> {
        let records = self.state.lock().records.clone();
        let mut published: BTreeMap<ByteString, Vec<ByteString>> = BTreeMap::new();
        for record in &records {
            if let Record::Published { key, id } = record {
                let of_key = published.entry(key.clone()).or_default();
                if !of_key.contains(id) {
                    of_key.push(id.clone());
                }
            }
        }
        let check = |group| GroupCheck::new(group, expected, &published).run(&records);
        expected.groups.iter().flat_map(check).collect()
    }

    /// Panics with every violation.
    ///
    /// # Panics
    /// When the history differs from what was expected.
    #[track_caller]
    pub fn assert(&self, expected: &Expected) {
        let violations = self.check(expected);
        let lines: Vec<String> = violations
            .iter()
            .take(20)
            .map(ToString::to_string)
            .collect();
        assert!(
            violations.is_empty(),
            "{} violations:\n{}",
            violations.len(),
            lines.join("\n")
        );
    }
}

fn names(event: &Envelope) -> (ByteString, ByteString) {
    (
        event.key.clone().unwrap_or_else(|| event.id.clone()),
        event.id.clone(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbered;

    fn history(handled: &[usize]) -> History {
        let history = History::new();
        for n in 0..3 {
            history.published(&numbered("t", "k", n));
        }
        for n in handled {
            let event = numbered("t", "k", *n);
            history.began("g", &event);
            history.ended("g", &event, true);
        }
        history
    }

    #[test]
    fn finds_nothing_where_nothing_is_wrong() {
        history(&[0, 1, 2]).assert(&Expected::exactly_once(&["g"]));
        history(&[0, 1, 0, 1, 2]).assert(&Expected::exactly_once(&["g"]).with_duplicates(2));
    }

    #[test]
    fn finds_loss_duplicates_disorder_overlap_and_invention() {
        let once = Expected::exactly_once(&["g"]);
        assert!(matches!(
            history(&[0, 1]).check(&once)[..],
            [Violation::Lost { .. }]
        ));
        let twice = history(&[0, 1, 1, 2]).check(&once);
        assert!(matches!(
            twice[..],
            [Violation::Duplicates { count: 1, .. }]
        ));
        assert!(matches!(
            history(&[1, 0, 2]).check(&once)[..],
            [Violation::Order { .. }]
        ));
        assert!(matches!(
            history(&[0, 1, 2, 9]).check(&once)[..],
            [Violation::Invented { .. }]
        ));
        let both = history(&[0, 1]);
        both.began("g", &numbered("t", "k", 2));
        both.began("g", &numbered("t", "k", 1));
        assert!(
            both.check(&once)
                .iter()
                .any(|v| matches!(v, Violation::Overlap { .. }))
        );
    }
}
