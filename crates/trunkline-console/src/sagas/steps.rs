//! The entries of a journal, told step by step.

use jiff::Timestamp;
use serde::Serialize;
use trunkline_core::ByteString;
use trunkline_saga::{Body, Data, Entry, Fault, Wait};
use uuid::Uuid;

/// What one operation of an instance came to.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    name: ByteString,
    place: ByteString,
    /// `step`, `wait`, `child`, `race`, or `mark` for what was done with the whole.
    kind: &'static str,
    /// `trying`, `waiting`, `done`, `failed`, `elapsed` or `cancelled`.
    state: &'static str,
    attempts: u32,
    began: Timestamp,
    /// None while it goes on.
    ended: Option<Timestamp>,
    /// When it is tried again, or its wait is over.
    due: Option<Timestamp>,
    /// Who said by hand what it gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<ByteString>,
    /// The instance that it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    child: Option<Uuid>,
    input: Option<Data>,
    output: Option<Data>,
    /// Why it failed, or the last attempt did.
    error: Option<Fault>,
    /// The attempts that failed, those of a step that was done in the end too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tries: Vec<Try>,
    /// How far its compensation is.
    undone: Option<Undone>,
}

/// An attempt that failed.
#[derive(Debug, Serialize)]
struct Try {
    attempt: u32,
    began: Timestamp,
    at: Timestamp,
    error: Fault,
}

/// A compensation.
#[derive(Debug, Serialize)]
struct Undone {
    is_done: bool,
    attempts: u32,
    began: Timestamp,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<ByteString>,
    error: Option<Fault>,
}

/// Each operation, in the order in which they began to be written.
pub(super) fn steps(entries: &[Entry]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for entry in entries {
        let known = steps.iter().position(|step| step.place == entry.place);
        let at = known.unwrap_or_else(|| {
            steps.push(Step::new(entry));
            steps.len() - 1
        });
        if let Some(step) = steps.get_mut(at) {
            step.take(entry);
        }
    }
    steps
}

impl Step {
    fn new(entry: &Entry) -> Self {
        Self {
            name: entry.name.clone(),
            place: entry.place.clone(),
            kind: "mark",
            state: "done",
            attempts: 0,
            began: entry.began,
            ended: None,
            due: None,
            by: None,
            child: None,
            input: None,
            output: None,
            error: None,
            tries: Vec::new(),
            undone: None,
        }
    }

    fn failed(&mut self, entry: &Entry, attempt: u32, error: &Fault) {
        self.attempts = attempt;
        self.error = Some(error.clone());
        self.tries.push(Try {
            attempt,
            began: entry.began,
            at: entry.at,
            error: error.clone(),
        });
    }

    fn take(&mut self, entry: &Entry) {
        match &entry.body {
            Body::Done {
                input,
                output,
                attempt,
                by,
            } => {
                self.ends("step", "done", entry.at);
                (self.attempts, self.by) = (*attempt, by.clone());
                (self.input, self.output) = (input.clone(), Some(output.clone()));
                self.error = None;
            }
            Body::Tried {
                attempt,
                error,
                next,
            } => {
                (self.kind, self.state) = ("step", "trying");
                self.due = Some(*next);
                self.failed(entry, *attempt, error);
            }
            Body::Failed {
                input,
                error,
                attempt,
            } => {
                self.ends("step", "failed", entry.at);
                self.input = input.clone();
                self.failed(entry, *attempt, error);
            }
            Body::Waits(Wait { until, .. }) => {
                (self.kind, self.state) = ("wait", "waiting");
                self.due = *until;
            }
            Body::Elapsed => self.ends("wait", "elapsed", entry.at),
            Body::Received { data, .. } => {
                let kind = if self.kind == "child" {
                    "child"
                } else {
                    "wait"
                };
                self.ends(kind, "done", entry.at);
                self.output = Some(data.clone());
            }
            Body::Child { id } => {
                (self.kind, self.state) = ("child", "waiting");
                self.child = Some(*id);
            }
            Body::Won { index } => {
                self.ends("race", "done", entry.at);
                self.output = Data::of(index).ok();
            }
            Body::Cancelled { error, .. } => {
                self.ends(self.kind, "cancelled", entry.at);
                self.error = Some(error.clone());
            }
            Body::Undone { attempt, by } => self.undone(entry, (*attempt, true), by.clone(), None),
            Body::UndoTried { attempt, error, .. } => {
                self.undone(entry, (*attempt, false), None, Some(error.clone()));
            }
        }
    }

    fn ends(&mut self, kind: &'static str, state: &'static str, at: Timestamp) {
        (self.kind, self.state) = (kind, state);
        (self.ended, self.due) = (Some(at), None);
    }

    fn undone(
        &mut self,
        entry: &Entry,
        (attempts, is_done): (u32, bool),
        by: Option<ByteString>,
        error: Option<Fault>,
    ) {
        let began = self
            .undone
            .as_ref()
            .map_or(entry.began, |undone| undone.began);
        self.undone = Some(Undone {
            is_done,
            attempts,
            began,
            at: entry.at,
            by,
            error,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u64, place: &str, body: Body) -> Entry {
        let at = |seconds: u64| Timestamp::from_second(i64::try_from(seconds).unwrap()).unwrap();
        Entry {
            seq,
            place: place.into(),
            name: format!("name {place}").into(),
            began: at(seq),
            at: at(seq + 1),
            body,
        }
    }

    fn fault() -> Fault {
        Fault::of(&trunkline_core::Error::conflict(
            "sold_out",
            "nothing is left",
        ))
    }

    #[test]
    fn entries_of_one_place_are_one_step() {
        let next = Timestamp::from_second(9).unwrap();
        let tried = |attempt| Body::Tried {
            attempt,
            error: fault(),
            next,
        };
        let done = Body::Done {
            input: None,
            output: Data::of("held").unwrap(),
            attempt: 2,
            by: None,
        };
        let undo_tried = Body::UndoTried {
            attempt: 1,
            error: fault(),
            next,
        };
        let undone = Body::Undone {
            attempt: 2,
            by: None,
        };
        let entries = [
            entry(0, "0", tried(1)),
            entry(1, "0", done),
            entry(2, "1", tried(1)),
            entry(3, "0", undo_tried),
            entry(4, "0", undone),
        ];
        let all = steps(&entries);
        let [first, second] = &all[..] else {
            panic!("{all:?}")
        };
        assert_eq!(
            (first.kind, first.state, first.attempts),
            ("step", "done", 2)
        );
        assert_eq!((first.error.as_ref(), first.due), (None, None));
        assert_eq!(first.tries.len(), 1, "what failed before is told");
        assert_eq!(
            (first.tries[0].attempt, first.tries[0].at),
            (1, entries[0].at)
        );
        let undone = first.undone.as_ref().unwrap();
        assert_eq!((undone.is_done, undone.attempts), (true, 2));
        assert_eq!(undone.began, entries[3].began);
        assert_eq!((second.state, second.ended), ("trying", None));
        assert_eq!(second.due, Some(next));
    }

    #[test]
    fn a_childs_end_is_a_childs() {
        let id = Uuid::from_u128(7);
        let received = Body::Received {
            message: "m".into(),
            data: Data::of(&1).unwrap(),
        };
        let entries = [
            entry(0, "0", Body::Child { id }),
            entry(1, "0", received.clone()),
            entry(
                2,
                "1",
                Body::Waits(Wait {
                    message: None,
                    until: None,
                }),
            ),
            entry(3, "1", received),
        ];
        let all = steps(&entries);
        assert_eq!(
            (all[0].kind, all[0].state, all[0].child),
            ("child", "done", Some(id))
        );
        assert_eq!((all[1].kind, all[1].state), ("wait", "done"));
    }
}
