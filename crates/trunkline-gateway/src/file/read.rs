//! Reading fields of a document, with every mistake kept and none that stops the rest.

use std::fmt::Display;

use trunkline_core::Error;

use super::Source;
use super::node::{Field, Node, Place, What};
use crate::beside::give_way;

/// More mistakes than this are counted, and not told one by one.
pub(crate) const PROBLEMS_MAX: usize = 200;

/// What is wrong with a file: where, and what was expected there.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    list: Vec<(Place, String)>,
    more: usize,
}

impl Problems {
    pub(crate) fn add(&mut self, place: Place, path: &str, expected: impl Display) {
        if self.list.len() == PROBLEMS_MAX {
            self.more += 1;
            return;
        }
        let colon = if path.is_empty() { "" } else { ": " };
        self.list.push((place, format!("{path}{colon}{expected}")));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn append(&mut self, others: Self) {
        self.list.extend(others.list);
        self.more += others.more;
    }

    /// Each in the order of the file, with its place, if there is a file.
    pub(crate) fn lines(mut self, file: Option<&str>) -> Vec<String> {
        self.list.sort_by_key(|(place, _)| *place);
        let lines = self.list.iter().map(|(place, text)| match file {
            Some(file) => format!("{file}:{place}: {text}"),
            None => text.clone(),
        });
        let more = (self.more > 0).then(|| format!("and {} more", self.more));
        lines.chain(more).collect()
    }

    /// The error of a configuration that is wrong, a line for each mistake.
    pub(crate) fn refusal(self, source: Option<&Source>) -> Error {
        let lines = self.lines(source.map(|source| &*source.name));
        let text = format!(
            "the gateway's configuration is wrong:\n{}",
            lines.join("\n")
        );
        Error::invalid("gateway_config_invalid", text)
    }
}

/// The fields of one entity. Each is asked for by its name; what nobody asked for is a mistake.
pub(crate) struct Fields<'n> {
    pub(crate) path: String,
    pub(crate) place: Place,
    fields: &'n [Field],
    asked: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The fields of a node; none, and a mistake, if it has none.
    pub(crate) fn of(node: &'n Node, path: String, problems: &mut Problems) -> Option<Self> {
        let What::Fields(fields) = &node.what else {
            let found = node.kind();
            problems.add(node.place, &path, format!("expected fields, found {found}"));
            return None;
        };
        Some(Self {
            path,
            place: node.place,
            fields,
            asked: Vec::new(),
        })
    }

    fn path_of(&self, name: &str) -> String {
        let dot = if self.path.is_empty() { "" } else { "." };
        format!("{}{dot}{name}", self.path)
    }

    /// A field. One that says nothing (`null`) is as one that is not there.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<&'n Node> {
        give_way();
        self.asked.push(name);
        let field = self.fields.iter().find(|field| field.name == name)?;
        (field.node.what != What::Null).then_some(&field.node)
    }

    pub(crate) fn wrong(
        &self,
        node: &Node,
        name: &str,
        expected: impl Display,
        problems: &mut Problems,
    ) {
        problems.add(node.place, &self.path_of(name), expected);
    }

    /// A field that has to be there.
    pub(crate) fn needs<T>(
        &self,
        name: &str,
        found: Option<T>,
        problems: &mut Problems,
    ) -> Option<T> {
        if found.is_none() && !self.fields.iter().any(|field| field.name == name) {
            problems.add(self.place, &self.path, format!("expected `{name}`"));
        }
        found
    }

    pub(crate) fn text(&mut self, name: &'static str, problems: &mut Problems) -> Option<String> {
        let node = self.take(name)?;
        let text = text_of(node);
        if text.is_none() {
            let expected = format!("expected a text, found {}", node.kind());
            self.wrong(node, name, expected, problems);
        }
        text
    }

    pub(crate) fn flag(&mut self, name: &'static str, problems: &mut Problems) -> Option<bool> {
        let node = self.take(name)?;
        if let What::Flag(flag) = node.what {
            return Some(flag);
        }
        let expected = format!("expected true or false, found {}", node.kind());
        self.wrong(node, name, expected, problems);
        None
    }

    /// A whole number between two bounds, both included.
    pub(crate) fn number(
        &mut self,
        name: &'static str,
        (min, max): (i64, i64),
        problems: &mut Problems,
    ) -> Option<u64> {
        let node = self.take(name)?;
        match node.what {
            What::Integer(number) if (min..=max).contains(&number) => u64::try_from(number).ok(),
            _ => {
                let found = found(node);
                let expected =
                    format!("expected a whole number from {min} to {max}, found {found}");
                self.wrong(node, name, expected, problems);
                None
            }
        }
    }

    /// A number of seconds, which may be a fraction.
    pub(crate) fn seconds(&mut self, name: &'static str, problems: &mut Problems) -> Option<f64> {
        let node = self.take(name)?;
        let seconds = match node.what {
            What::Integer(seconds) => i32::try_from(seconds).ok().map(f64::from),
            What::Decimal(seconds) => Some(seconds),
            _ => None,
        };
        let fits = seconds.filter(|seconds| (0.0..=65_535.0).contains(seconds));
        if fits.is_none() {
            let expected = format!("expected seconds from 0 to 65535, found {}", found(node));
            self.wrong(node, name, expected, problems);
        }
        fits
    }

    /// One of some words.
    pub(crate) fn one_of<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&str, T)],
        problems: &mut Problems,
    ) -> Option<T> {
        let node = self.take(name)?;
        let text = text_of(node);
        let known = text.as_deref().and_then(|text| {
            let word = words.iter().find(|(word, _)| *word == text);
            word.map(|(_, value)| *value)
        });
        if known.is_none() {
            let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let expected = format!(
                "expected one of {}, found {}",
                names.join(", "),
                found(node)
            );
            self.wrong(node, name, expected, problems);
        }
        known
    }

    /// A list, each of whose items is read with its path.
    pub(crate) fn list<T>(
        &mut self,
        name: &'static str,
        problems: &mut Problems,
        mut read: impl FnMut(&'n Node, String, &mut Problems) -> Option<T>,
    ) -> Vec<T> {
        let Some(node) = self.take(name) else {
            return Vec::new();
        };
        let What::List(items) = &node.what else {
            let expected = format!("expected a list, found {}", node.kind());
            self.wrong(node, name, expected, problems);
            return Vec::new();
        };
        let path = self.path_of(name);
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            list.extend(read(item, format!("{path}[{index}]"), problems));
        }
        list
    }

    pub(crate) fn texts(&mut self, name: &'static str, problems: &mut Problems) -> Vec<String> {
        self.list(name, problems, |node, path, problems| {
            let text = text_of(node);
            if text.is_none() {
                let expected = format!("expected a text, found {}", node.kind());
                problems.add(node.place, &path, expected);
            }
            text
        })
    }

    /// Fields inside of a field.
    pub(crate) fn inside(
        &mut self,
        name: &'static str,
        problems: &mut Problems,
    ) -> Option<Fields<'n>> {
        let node = self.take(name)?;
        Fields::of(node, self.path_of(name), problems)
    }

    /// Fields that are understood and change nothing here.
    pub(crate) fn ignored(&mut self, names: &[&'static str]) {
        self.asked.extend(names);
    }

    /// Fields that are known, and not supported: each is refused, with the reason.
    pub(crate) fn unsupported(&mut self, names: &[(&'static str, &str)], problems: &mut Problems) {
        for (name, why) in names {
            if self.take(name).is_some() {
                let field = self.fields.iter().find(|field| field.name == *name);
                let place = field.map_or(self.place, |field| field.place);
                let refused = format!("`{name}` is not supported: {why}");
                problems.add(place, &self.path_of(name), refused);
            }
        }
    }

    /// The pairs of a field whose names are anybody's.
    pub(crate) fn pairs(&self) -> &'n [Field] {
        self.fields
    }

    /// Everything was asked for: what is left is unknown.
    pub(crate) fn end(self, problems: &mut Problems) {
        for field in self.fields {
            let name = &*field.name;
            if self.asked.contains(&name) {
                continue;
            }
            let near = self
                .asked
                .iter()
                .copied()
                .min_by_key(|known| distance(known, name));
            let hint = near
                .filter(|known| distance(known, name) <= 2)
                .map_or_else(String::new, |known| format!("; did you mean `{known}`?"));
            let expected = format!("unknown field `{name}`{hint}");
            problems.add(field.place, &self.path_of(name), expected);
        }
    }
}

/// A text, and a number or a flag as it is written where a text is meant: `name: 12`.
pub(crate) fn text_of(node: &Node) -> Option<String> {
    match &node.what {
        What::Text(text) => Some(text.clone()),
        What::Integer(number) => Some(number.to_string()),
        What::Decimal(number) => Some(number.to_string()),
        What::Flag(flag) => Some(flag.to_string()),
        What::Null | What::List(_) | What::Fields(_) => None,
    }
}

fn found(node: &Node) -> String {
    match text_of(node) {
        Some(text) if text.len() <= 80 => format!("`{text}`"),
        _ => node.kind().to_owned(),
    }
}

/// In how many letters two words differ (Levenshtein), for words as long as names of fields are.
fn distance(one: &str, other: &str) -> usize {
    if one.len().abs_diff(other.len()) > 2 || other.len() > 64 {
        return usize::MAX;
    }
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut corner = index;
        let mut left = index + 1;
        for (place, second) in row.iter_mut().skip(1).zip(&other) {
            let cost = corner + usize::from(letter != *second);
            corner = *place;
            left = cost.min(*place + 1).min(left + 1);
            *place = left;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_differ_by_letters_are_near() {
        for (one, other, expected) in [
            ("routes", "routes", 0),
            ("routes", "route", 1),
            ("routes", "ruotes", 2),
            ("paths", "path", 1),
            ("name", "", usize::MAX),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn every_mistake_is_kept() {
        let text = "name: [1]\nretries: 99999\non: 3\nkind: blue\npaths: [a, [b], 7]\nnaem: x\nwait: -1\ngone: 1";
        let node = Node::parse(text).unwrap();
        let mut problems = Problems::default();
        let mut fields = Fields::of(&node, "services[0]".to_owned(), &mut problems).unwrap();
        assert_eq!(fields.text("name", &mut problems), None);
        assert_eq!(fields.number("retries", (0, 100), &mut problems), None);
        assert_eq!(fields.flag("on", &mut problems), None);
        assert_eq!(
            fields.one_of("kind", &[("red", 1), ("green", 2)], &mut problems),
            None
        );
        assert_eq!(fields.texts("paths", &mut problems), ["a", "7"]);
        assert_eq!(fields.seconds("wait", &mut problems), None);
        fields.unsupported(&[("gone", "it went")], &mut problems);
        let host = fields.text("host", &mut problems);
        fields.needs("host", host, &mut problems);
        fields.end(&mut problems);
        assert_eq!(
            problems.lines(Some("k.yml")),
            [
                "k.yml:1:1: services[0]: expected `host`",
                "k.yml:1:7: services[0].name: expected a text, found a list",
                "k.yml:2:10: services[0].retries: expected a whole number from 0 to 100, found `99999`",
                "k.yml:3:5: services[0].on: expected true or false, found a number",
                "k.yml:4:7: services[0].kind: expected one of red, green, found `blue`",
                "k.yml:5:12: services[0].paths[1]: expected a text, found a list",
                "k.yml:6:1: services[0].naem: unknown field `naem`; did you mean `name`?",
                "k.yml:7:7: services[0].wait: expected seconds from 0 to 65535, found `-1`",
                "k.yml:8:1: services[0].gone: `gone` is not supported: it went",
            ]
        );
    }
}
