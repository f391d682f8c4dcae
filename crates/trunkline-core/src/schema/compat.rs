//! Whether the readers of one version can read what the writers of another wrote.

use std::fmt;

use serde_json::{Map, Value};

use super::describe::{
    describe, describe_all, integer_bits, is_alike, is_least, is_most, join, phrase,
};
use super::normal::{branches, normal};

/// Who must be able to read whose events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The new version reads what the old one wrote.
    Backward,
    /// The old version reads what the new one writes.
    Forward,
    /// Both.
    Full,
}

/// One reason why two versions are not compatible.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The field: `items[].price`, `prices{}` for the values of a map; empty for the data as a whole.
    pub path: String,
    /// What changed.
    pub what: String,
    /// Why that breaks a reader.
    pub why: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() {
            "the data"
        } else {
            &self.path
        };
        write!(f, "{path}: {}: {}", self.what, self.why)
    }
}

/// Compares two versions of a schema; an empty list says that they are compatible.
///
/// # Guarantees
/// A writer is taken to write the fields that its schema declares and no others. What this can't
/// judge, such as a changed pattern, counts as a difference.
pub fn compatible(old: &Value, new: &Value, mode: Mode) -> Vec<Difference> {
    let (old, new) = (normal(old), normal(new));
    let mut differences = Vec::new();
    if mode != Mode::Forward {
        let names = Names {
            writer: "the old version",
            reader: "the new version",
        };
        Reading {
            names,
            found: &mut differences,
        }
        .node(&old, &new, "");
    }
    if mode != Mode::Backward {
        let names = Names {
            writer: "the new version",
            reader: "the old version",
        };
        Reading {
            names,
            found: &mut differences,
        }
        .node(&new, &old, "");
    }
    differences
}

#[derive(Clone, Copy)]
struct Names {
    writer: &'static str,
    reader: &'static str,
}

/// Collects what keeps a reader from reading.
struct Reading<'a> {
    names: Names,
    found: &'a mut Vec<Difference>,
}

impl Reading<'_> {
    fn report(&mut self, path: &str, what: impl Into<String>, why: impl Into<String>) {
        self.found.push(Difference {
            path: path.into(),
            what: what.into(),
            why: why.into(),
        });
    }

    fn attempt(&self, writer: &Value, reader: &Value, path: &str) -> Vec<Difference> {
        let mut found = Vec::new();
        Reading {
            names: self.names,
            found: &mut found,
        }
        .simple(writer, reader, path);
        found
    }

    fn node(&mut self, writer: &Value, reader: &Value, path: &str) {
        if writer == reader || reader.as_object().is_some_and(Map::is_empty) {
            return;
        }
        let (writers, readers) = (branches(writer), branches(reader));
        if let ([writer], [reader]) = (writers.as_slice(), readers.as_slice()) {
            return self.simple(writer, reader, path);
        }
        for written in writers {
            let attempts: Vec<(&Value, Vec<Difference>)> = readers
                .iter()
                .map(|read| (*read, self.attempt(written, read, path)))
                .collect();
            if attempts.iter().any(|(_, found)| found.is_empty()) {
                continue;
            }
            // Of the branches that could be meant, the one with the fewest differences.
            let alike = attempts
                .into_iter()
                .filter(|(read, _)| is_alike(written, read));
            match alike.min_by_key(|(_, found)| found.len()) {
                Some((_, found)) => self.found.extend(found),
                None => {
                    let (written, choices) = (describe(written), describe_all(reader));
                    let Names { writer, reader } = self.names;
                    self.report(
                        path,
                        format!("{writer} admits {written}, {reader} {choices}"),
                        format!("{reader} refuses {written}"),
                    );
                }
            }
        }
    }

    /// Neither side is a choice.
    fn simple(&mut self, writer: &Value, reader: &Value, path: &str) {
        let (Value::Object(written), Value::Object(read)) = (writer, reader) else {
            if reader.is_boolean() && writer.is_object() {
                let refuses = format!("{} admits no value here", self.names.reader);
                self.report(path, refuses, format!("{} writes one", self.names.writer));
            }
            return;
        };
        if !self.types(written, read, path) {
            return;
        }
        for (keyword, limit) in read {
            let given = written.get(keyword);
            match keyword.as_str() {
                "type" | "default" => {}
                "enum" => self.values(given, limit, path),
                "properties" => self.properties(written, limit, path),
                "required" => self.required(written, limit, path),
                "additionalProperties" => self.additional(written, read, path),
                "items" => match given {
                    Some(items) => self.node(items, limit, &format!("{path}[]")),
                    None => self.node(&Value::Object(Map::new()), limit, &format!("{path}[]")),
                },
                "prefixItems" => self.prefix(given, limit, path),
                "format" => self.format(written, limit, path),
                _ => self.limit(keyword, written, limit, path),
            }
        }
    }

    /// False when no more can be said.
    fn types(
        &mut self,
        written: &Map<String, Value>,
        read: &Map<String, Value>,
        path: &str,
    ) -> bool {
        let (from, to) = (written.get("type"), read.get("type"));
        let (Some(to), Names { writer, reader }) = (to, self.names) else {
            return true;
        };
        let widens = from.and_then(Value::as_str) == Some("integer") && to == "number";
        if from == Some(to) || widens {
            return true;
        }
        let from = from.map_or_else(|| "any type".into(), |from| phrase(&from.to_string()));
        let what = format!("{writer} has {from}, {reader} {}", phrase(&to.to_string()));
        self.report(path, what, format!("{reader} refuses {from}"));
        false
    }

    fn values(&mut self, given: Option<&Value>, limit: &Value, path: &str) {
        let Names { writer, reader } = self.names;
        let known = limit.as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(given) = given.and_then(Value::as_array) else {
            let what = format!("{reader} lists the values it admits, {writer} does not");
            self.report(path, what, format!("{reader} refuses any other value"));
            return;
        };
        for value in given.iter().filter(|value| !known.contains(value)) {
            let what = format!("the value {value} is only in {writer}");
            self.report(path, what, format!("{reader} refuses it"));
        }
    }

    fn properties(&mut self, written: &Map<String, Value>, read: &Value, path: &str) {
        let given = written.get("properties").and_then(Value::as_object);
        for (name, read) in read.as_object().into_iter().flatten() {
            if let Some(given) = given.and_then(|given| given.get(name)) {
                self.node(given, read, &join(path, name));
            }
        }
    }

    fn required(&mut self, written: &Map<String, Value>, read: &Value, path: &str) {
        let Names { writer, reader } = self.names;
        let always = written.get("required").and_then(Value::as_array);
        let declared = written.get("properties").and_then(Value::as_object);
        for name in read.as_array().into_iter().flatten() {
            if always.is_some_and(|always| always.contains(name)) {
                continue;
            }
            let name = name.as_str().unwrap_or_default();
            let what = if declared.is_some_and(|declared| declared.contains_key(name)) {
                format!("optional in {writer}, required in {reader}")
            } else {
                format!("absent in {writer}, required in {reader}")
            };
            let why = format!("{reader} refuses an event without it");
            self.report(&join(path, name), what, why);
        }
    }

    /// Members that the reader does not declare.
    fn additional(&mut self, written: &Map<String, Value>, read: &Map<String, Value>, path: &str) {
        let Some(rule) = read.get("additionalProperties") else {
            return;
        };
        let known = read.get("properties").and_then(Value::as_object);
        let Names { writer, reader } = self.names;
        let given = written.get("properties").and_then(Value::as_object);
        for (name, given) in given.into_iter().flatten() {
            if known.is_some_and(|known| known.contains_key(name)) {
                continue;
            }
            if *rule == Value::Bool(false) {
                let what = format!("only in {writer}");
                let why = format!("{reader} refuses fields that it does not know");
                self.report(&join(path, name), what, why);
            } else {
                self.node(given, rule, &join(path, name));
            }
        }
        if let Some(map) = written
            .get("additionalProperties")
            .filter(|map| map.is_object())
        {
            self.node(map, rule, &format!("{path}{{}}"));
        }
    }

    fn prefix(&mut self, given: Option<&Value>, read: &Value, path: &str) {
        let any = Value::Object(Map::new());
        for (index, read) in read.as_array().into_iter().flatten().enumerate() {
            let given = given.and_then(|given| given.get(index)).unwrap_or(&any);
            self.node(given, read, &format!("{path}[{index}]"));
        }
    }

    fn format(&mut self, written: &Map<String, Value>, limit: &Value, path: &str) {
        let given = written.get("format");
        let (from, to) = (
            given.and_then(Value::as_str),
            limit.as_str().unwrap_or_default(),
        );
        let floats = ["float", "double"];
        let fits = match (from.and_then(integer_bits), integer_bits(to)) {
            (Some(from), Some(to)) => to.0 <= from.0 && from.1 <= to.1,
            _ => from == Some(to) || floats.contains(&to),
        };
        if !fits {
            let Names { writer, reader } = self.names;
            let from = from.unwrap_or("no format");
            let what = format!("{writer} has {from}, {reader} {to}");
            self.report(path, what, format!("not every {from} is a {to}"));
        }
    }

    /// A bound, or a constraint that can only be compared for being the same.
    fn limit(&mut self, keyword: &str, written: &Map<String, Value>, limit: &Value, path: &str) {
        let given = written.get(keyword);
        if given == Some(limit) {
            return;
        }
        let Names { writer, reader } = self.names;
        let numbers = (given.and_then(Value::as_f64), limit.as_f64());
        let fits = match (keyword, numbers) {
            ("minLength" | "minItems" | "minProperties", (None, Some(0.0))) => true,
            (least, (Some(given), Some(limit))) if is_least(least) => given >= limit,
            (most, (Some(given), Some(limit))) if is_most(most) => given <= limit,
            ("uniqueItems", _) => *limit == Value::Bool(false),
            _ => false,
        };
        if !fits {
            let given = given.map_or_else(|| "none".into(), Value::to_string);
            let what = format!("`{keyword}` is {given} in {writer}, {limit} in {reader}");
            self.report(path, what, format!("{reader} refuses what lies between"));
        }
    }
}

#[cfg(test)]
mod tests;
