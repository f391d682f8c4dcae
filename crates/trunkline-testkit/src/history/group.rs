//! What one group did with the events, against what was expected of it.

use std::collections::{BTreeMap, HashMap};

use trunkline_core::ByteString;

use super::{Expected, Record, Violation};

pub(super) struct GroupCheck<'a> {
    group: &'a ByteString,
    expected: &'a Expected,
    published: &'a BTreeMap<ByteString, Vec<ByteString>>,
    /// Per key: how many of its events, from the first, have been handled.
    upto: HashMap<ByteString, usize>,
    running: HashMap<ByteString, ByteString>,
    duplicates: usize,
    found: Vec<Violation>,
}

impl<'a> GroupCheck<'a> {
    pub(super) fn new(
        group: &'a ByteString,
        expected: &'a Expected,
        published: &'a BTreeMap<ByteString, Vec<ByteString>>,
    ) -> Self {
        Self {
            group,
            expected,
            published,
            upto: HashMap::new(),
            running: HashMap::new(),
            duplicates: 0,
            found: Vec::new(),
        }
    }

    pub(super) fn run(mut self, records: &[Record]) -> Vec<Violation> {
        let mut seen: HashMap<&ByteString, usize> = HashMap::new();
        for record in records {
            match record {
                Record::Began { group, key, id } if group == self.group => self.began(key, id),
                Record::Ended {
                    group,
                    key,
                    id,
                    done,
                } if group == self.group => {
                    self.running.remove(key);
                    if *done {
                        *seen.entry(id).or_default() += 1;
                        self.done(key, id, seen.get(id).copied().unwrap_or(0) > 1);
                    }
                }
                _ => {}
            }
        }
        for id in self
            .published
            .values()
            .flatten()
            .filter(|id| !seen.contains_key(id))
        {
            self.found.push(Violation::Lost {
                group: self.group.clone(),
                id: id.clone(),
            });
        }
        if self.duplicates > self.expected.duplicates_max {
            let (group, count) = (self.group.clone(), self.duplicates);
            self.found.push(Violation::Duplicates { group, count });
        }
        self.found
    }

    fn began(&mut self, key: &ByteString, id: &ByteString) {
        let running = self.running.insert(key.clone(), id.clone());
        if self.expected.exclusive
            && let Some(running) = running
        {
            let (group, other) = (self.group.clone(), id.clone());
            self.found.push(Violation::Overlap {
                group,
                id: running,
                other,
            });
        }
    }

    fn done(&mut self, key: &ByteString, id: &ByteString, again: bool) {
        let group = self.group.clone();
        let order = self.published.get(key).map_or(&[][..], Vec::as_slice);
        let Some(at) = order.iter().position(|other| other == id) else {
            self.found.push(Violation::Invented {
                group,
                id: id.clone(),
            });
            return;
        };
        if again {
            self.duplicates += 1;
            return;
        }
        let upto = self.upto.entry(key.clone()).or_default();
        if self.expected.ordered
            && at > *upto
            && let Some(due) = order.get(*upto)
        {
            let (id, due) = (id.clone(), due.clone());
            self.found.push(Violation::Order { group, id, due });
        }
        *upto = (*upto).max(at + 1);
    }
}
