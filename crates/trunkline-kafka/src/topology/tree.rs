//! A YAML document with the line of each part of it.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use trunkline_core::{Error, Result};

/// A part of a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// From 1. That of a list or mapping is the line of its first part, 0 where it is empty.
    pub(super) line: usize,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Nothing,
    Truth(bool),
    Whole(i64),
    Text(String),
    /// A number with a fraction, or too large.
    Number,
    List(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Nothing => f.write_str("nothing"),
            Kind::Truth(truth) => write!(f, "{truth}"),
            Kind::Whole(number) => write!(f, "{number}"),
            Kind::Text(text) => write!(f, "{text:?}"),
            Kind::Number => f.write_str("another number"),
            Kind::List(_) => f.write_str("a list"),
            Kind::Mapping(_) => f.write_str("a mapping"),
        }
    }
}

/// Reads a document; an empty one is nothing.
pub(super) fn parse(text: &str) -> Result<Node> {
    let invalid = |error: yaml_serde::Error| {
        Error::invalid("topology_invalid", "the file is not YAML").with_source(error)
    };
    let mut documents = yaml_serde::Deserializer::from_str(text);
    let Some(first) = documents.next() else {
        return Ok(Node {
            line: 0,
            kind: Kind::Nothing,
        });
    };
    let node = Part.deserialize(first).map_err(invalid)?;
    match documents.next() {
        None => Ok(node),
        Some(_) => Err(Error::invalid(
            "topology_invalid",
            "expected one YAML document",
        )),
    }
}

struct Part;

impl<'de> DeserializeSeed<'de> for Part {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Node, D::Error> {
        // The library tells lines in errors only: a scalar is refused, and taken with the error's line.
        let mut scalar = None;
        let kind = match from.deserialize_any(Taker(&mut scalar)) {
            Ok(kind) => kind,
            Err(error) => {
                let line = line(&error.to_string());
                let Some(kind) = scalar else {
                    return Err(error);
                };
                return Ok(Node { line, kind });
            }
        };
        let line = match &kind {
            Kind::List(parts) => parts.first().map_or(0, |part| part.line),
            Kind::Mapping(parts) => parts.first().map_or(0, |(key, _)| key.line),
            _ => 0,
        };
        Ok(Node { line, kind })
    }
}

/// The line in an error's text, `… at line 3 column 5`; the very beginning is not told.
fn line(text: &str) -> usize {
    let told = text.rsplit_once(" at line ");
    let number = told.and_then(|(_, place)| place.split(' ').next()?.parse().ok());
    number.unwrap_or(1)
}

/// Takes lists and mappings, and refuses scalars after having seen them.
struct Taker<'a>(&'a mut Option<Kind>);

impl Taker<'_> {
    fn refuse<E: de::Error>(self, kind: Kind) -> Result<Kind, E> {
        *self.0 = Some(kind);
        Err(E::custom("a scalar"))
    }
}

impl<'de> Visitor<'de> for Taker<'_> {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML without tags")
    }

    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Kind, E> {
        self.refuse(Kind::Truth(truth))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Kind, E> {
        self.refuse(Kind::Whole(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Kind, E> {
        let kind = i64::try_from(number).map_or(Kind::Number, Kind::Whole);
        self.refuse(kind)
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Kind, E> {
        self.refuse(Kind::Number)
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Kind, E> {
        self.refuse(Kind::Number)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Kind, E> {
        self.refuse(Kind::Number)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Kind, E> {
        self.refuse(Kind::Text(text.to_owned()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Kind, E> {
        self.refuse(Kind::Nothing)
    }

    fn visit_none<E: de::Error>(self) -> Result<Kind, E> {
        self.refuse(Kind::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Kind, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = list.next_element_seed(Part)? {
            parts.push(part);
        }
        Ok(Kind::List(parts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut parts = Vec::new();
        while let Some(key) = map.next_key_seed(Part)? {
            let mut value = map.next_value_seed(Part)?;
            if value.line == 0 {
                value.line = key.line;
            }
            parts.push((key, value));
        }
        Ok(Kind::Mapping(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_its_line() {
        let text =
            "# first\na: 1\nb:\n  - x: yes\n    y: true\n  - []\nc: {d: -2,\n  e: 1.5}\nf:\n";
        let node = parse(text).unwrap();
        let Kind::Mapping(parts) = &node.kind else {
            panic!("{node:?}");
        };
        let told: Vec<_> = parts
            .iter()
            .map(|(key, value)| format!("{}:{key}={}:{value}", key.line, value.line))
            .collect();
        assert_eq!(
            told,
            [
                "2:\"a\"=2:1",
                "3:\"b\"=4:a list",
                "7:\"c\"=7:a mapping",
                "9:\"f\"=9:nothing"
            ]
        );
        let Some((
            _,
            Node {
                kind: Kind::List(items),
                ..
            },
        )) = parts.get(1)
        else {
            panic!("{node:?}");
        };
        let Some(Node {
            kind: Kind::Mapping(first),
            ..
        }) = items.first()
        else {
            panic!("{items:?}");
        };
        assert_eq!(
            first[0].1.kind,
            Kind::Text("yes".to_owned()),
            "`yes` is a text"
        );
        assert_eq!((first[1].1.line, &first[1].1.kind), (5, &Kind::Truth(true)));
        assert_eq!(parse("").unwrap().kind, Kind::Nothing);
        assert!(parse("a: [").is_err());
        assert!(parse("a: 1\n---\nb: 2\n").is_err());
    }
}
