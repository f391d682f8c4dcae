//! The spans of one trace, as a tree.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "what does not fit fails the test"
)]

use std::collections::{BTreeMap, BTreeSet};

use trunkline_telemetry::SpanRecord;

/// A span as the tests see it, whoever recorded it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// When it began, in nanoseconds.
    pub began: u128,
    /// Its id.
    pub id: u64,
    /// 0 for a span that is nobody's child.
    pub parent: u64,
    /// Whose it is.
    pub service: String,
    /// What it is.
    pub name: String,
}

impl Hop {
    /// A span that was recorded in this process.
    pub fn of(span: &SpanRecord) -> Self {
        Self {
            began: span.began.as_nanosecond().unsigned_abs(),
            id: span.context.span_id,
            parent: span.parent.map_or(0, |parent| parent.span_id),
            service: span.service.to_string(),
            name: span.name.to_string(),
        }
    }
}

/// Checks that a trace is whole (each span's parent was recorded, and one span has none), and draws it:
/// a line for each span, below its parent, in the order in which they began.
///
/// # Panics
/// When it is not whole.
#[track_caller]
pub fn draw(mut hops: Vec<Hop>) -> String {
    hops.sort();
    let ids: BTreeSet<u64> = hops.iter().map(|hop| hop.id).collect();
    assert_eq!(ids.len(), hops.len(), "a span was recorded twice");
    let lost: Vec<_> = hops
        .iter()
        .filter(|hop| hop.parent != 0 && !ids.contains(&hop.parent))
        .collect();
    assert!(
        lost.is_empty(),
        "nobody recorded the parents of {lost:#?}\namong {hops:#?}"
    );
    let mut children = BTreeMap::<u64, Vec<&Hop>>::new();
    for hop in &hops {
        children.entry(hop.parent).or_default().push(hop);
    }
    assert_eq!(children[&0].len(), 1, "one root: {:#?}", children[&0]);
    let mut drawing = String::new();
    below(0, 0, &children, &mut drawing);
    assert_eq!(drawing.lines().count(), hops.len(), "all hang together");
    drawing
}

fn below(parent: u64, depth: usize, children: &BTreeMap<u64, Vec<&Hop>>, drawing: &mut String) {
    for hop in children.get(&parent).into_iter().flatten() {
        let indent = "  ".repeat(depth);
        drawing.push_str(&format!("{indent}{}: {}\n", hop.service, hop.name));
        below(hop.id, depth + 1, children, drawing);
    }
}

/// The way to the only line of a drawing that ends like this, from the root on.
///
/// # Panics
/// When there is none, or more than one.
#[track_caller]
pub fn way<'a>(drawing: &'a str, to: &str) -> Vec<&'a str> {
    let lines: Vec<_> = drawing.lines().collect();
    let ends: Vec<_> = (0..lines.len())
        .filter(|at| lines[*at].ends_with(to))
        .collect();
    let [mut at] = ends[..] else {
        panic!("one {to} in\n{drawing}")
    };
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut way = vec![lines[at].trim_start()];
    while depth(lines[at]) > 0 {
        let above = depth(lines[at]);
        at = (0..at).rfind(|up| depth(lines[*up]) < above).unwrap();
        way.insert(0, lines[at].trim_start());
    }
    way
}
