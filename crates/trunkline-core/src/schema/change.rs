//! What differs between two schemas, whether it breaks a reader or not.

use std::fmt;

use serde_json::{Map, Value};

use super::describe::{join, tag};
use super::normal::{branches, normal};

/// One thing that is not the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The field, as in [`Difference::path`](super::Difference::path).
    pub path: String,
    /// What changed.
    pub what: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() {
            "the data"
        } else {
            &self.path
        };
        write!(f, "{path}: {}", self.what)
    }
}

/// Lists what differs in meaning: descriptions, titles, the names of Rust types and the order of
/// fields do not count.
pub fn changes(old: &Value, new: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    node(&normal(old), &normal(new), "", &mut found);
    found
}

fn report(found: &mut Vec<Change>, path: &str, what: impl Into<String>) {
    found.push(Change {
        path: path.into(),
        what: what.into(),
    });
}

fn node(old: &Value, new: &Value, path: &str, found: &mut Vec<Change>) {
    if old == new {
        return;
    }
    let (before, after) = (branches(old), branches(new));
    if let ([Value::Object(old)], [Value::Object(new)]) = (before.as_slice(), after.as_slice()) {
        return object(old, new, path, found);
    }
    let label = |branch: &Value| {
        let kind = branch
            .get("type")
            .map_or_else(|| "any value".into(), Value::to_string);
        tag(branch).unwrap_or_else(|| kind.trim_matches('"').to_owned())
    };
    let same = |left: &Value, right: &Value| label(left) == label(right);
    for branch in &before {
        match after.iter().find(|other| same(branch, other)) {
            Some(other) if before.len() == 1 => node(branch, other, path, found),
            Some(other) => match (branch.as_object(), other.as_object()) {
                (Some(branch), Some(other)) => object(branch, other, path, found),
                _ => report(found, path, "changed"),
            },
            None => report(found, path, format!("no longer admits {}", label(branch))),
        }
    }
    for branch in after
        .iter()
        .filter(|branch| !before.iter().any(|other| same(branch, other)))
    {
        report(found, path, format!("now admits {}", label(branch)));
    }
}

fn object(old: &Map<String, Value>, new: &Map<String, Value>, path: &str, found: &mut Vec<Change>) {
    let mut keywords: Vec<&String> = old.keys().chain(new.keys()).collect();
    keywords.sort_unstable();
    keywords.dedup();
    for keyword in keywords {
        let (before, after) = (old.get(keyword), new.get(keyword));
        if before == after {
            continue;
        }
        match (keyword.as_str(), before, after) {
            ("properties", before, after) => properties(before, after, path, found),
            ("required" | "enum", before, after) => members(keyword, (before, after), path, found),
            ("items", Some(before), Some(after)) => {
                node(before, after, &format!("{path}[]"), found);
            }
            ("additionalProperties", Some(before), Some(after)) => {
                node(before, after, &format!("{path}{{}}"), found);
            }
            (_, before, after) => {
                let show = |value: Option<&Value>| {
                    value.map_or_else(|| "nothing".into(), Value::to_string)
                };
                report(
                    found,
                    path,
                    format!("`{keyword}` was {}, is {}", show(before), show(after)),
                );
            }
        }
    }
}

fn properties(before: Option<&Value>, after: Option<&Value>, path: &str, found: &mut Vec<Change>) {
    let none = Map::new();
    let before = before.and_then(Value::as_object).unwrap_or(&none);
    let after = after.and_then(Value::as_object).unwrap_or(&none);
    for (name, old) in before {
        match after.get(name) {
            Some(new) => node(old, new, &join(path, name), found),
            None => report(found, &join(path, name), "removed"),
        }
    }
    for name in after.keys().filter(|name| !before.contains_key(*name)) {
        report(found, &join(path, name), "added");
    }
}

/// The members of `required`, which are fields, or of `enum`, which are values.
fn members(
    keyword: &str,
    (before, after): (Option<&Value>, Option<&Value>),
    path: &str,
    found: &mut Vec<Change>,
) {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let (before, after) = (list(before), list(after));
    let (gone, come) = match keyword {
        "required" => ("no longer required", "now required"),
        _ => ("no longer among the values", "a new value"),
    };
    let mut each = |these: &[Value], others: &[Value], what: &str| {
        for value in these.iter().filter(|value| !others.contains(value)) {
            match (keyword, value.as_str()) {
                ("required", Some(field)) => report(found, &join(path, field), what),
                _ => report(found, path, format!("{value} is {what}")),
            }
        }
    };
    each(&before, &after, gone);
    each(&after, &before, come);
}
