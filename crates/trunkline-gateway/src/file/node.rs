//! A YAML document with the place of each value in it. JSON is YAML, too.

use std::collections::HashMap;
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::{Map, Number, Value};

use crate::beside::give_way;

/// A larger file is refused: 10,000 routes with plugins are some 5 MiB.
pub(super) const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Values inside of each other.
const DEPTH_MAX: usize = 64;
/// So many fields are faster looked through than hashed.
const FIELDS_FEW: usize = 16;
/// Values in one document, those that aliases repeat included.
const NODES_MAX: usize = 2_000_000;

/// Where something stands in a file, both from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Place {
    fn of(span: Span) -> Self {
        Self {
            line: span.start.line(),
            column: span.start.col() + 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    Null,
    Flag(bool),
    Integer(i64),
    Decimal(f64),
    Text(String),
    List(Vec<Node>),
    Fields(Vec<Field>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) node: Node,
}

/// Why a text is no document: the place, and what is wrong there.
pub(crate) type Broken = (Place, String);

impl Node {
    /// Reads a document.
    ///
    /// # Errors
    /// The first mistake in its form, a name that is given twice, or more than the bounds allow.
    pub(crate) fn parse(text: &str) -> Result<Self, Broken> {
        if text.len() > BYTES_MAX {
            let text = format!("expected at most {BYTES_MAX} bytes, found {}", text.len());
            return Err((Place { line: 1, column: 1 }, text));
        }
        let mut loader = Loader {
            events: Parser::new_from_str(text),
            anchors: HashMap::new(),
            nodes: 0,
        };
        loader.document()
    }

    pub(crate) fn nothing() -> Self {
        Self {
            place: Place { line: 1, column: 1 },
            what: What::Null,
        }
    }

    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.what {
            What::Null => "nothing",
            What::Flag(_) => "true or false",
            What::Integer(_) | What::Decimal(_) => "a number",
            What::Text(_) => "a text",
            What::List(_) => "a list",
            What::Fields(_) => "fields",
        }
    }

    /// The same without places.
    pub(crate) fn value(&self) -> Value {
        give_way();
        match &self.what {
            What::Null => Value::Null,
            What::Flag(flag) => Value::Bool(*flag),
            What::Integer(number) => Value::from(*number),
            What::Decimal(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
            What::Text(text) => Value::String(text.clone()),
            What::List(list) => list.iter().map(Self::value).collect(),
            What::Fields(fields) => {
                let pairs = fields
                    .iter()
                    .map(|field| (field.name.clone(), field.node.value()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }

    /// Frees it, giving way meanwhile.
    pub(super) fn release(self) {
        match self.what {
            What::List(list) => list.into_iter().for_each(Self::release),
            What::Fields(fields) => {
                let nodes = fields.into_iter().map(|field| field.node);
                nodes.for_each(Self::release);
            }
            _ => give_way(),
        }
    }

    /// The place of what a path such as `services[0].routes[1].paths[0]` names, or of the last of it that there is.
    pub(crate) fn find(&self, path: &str) -> Place {
        let (mut node, mut place) = (self, self.place);
        for step in path.split(['.', '[']) {
            let found = match (&node.what, step.strip_suffix(']')) {
                (_, None) if step.is_empty() => continue,
                (What::List(list), Some(index)) => {
                    let item = index
                        .parse::<usize>()
                        .ok()
                        .and_then(|index| list.get(index));
                    item.map(|item| (item, item.place))
                }
                (What::Fields(fields), None) => {
                    let field = fields.iter().find(|field| field.name == step);
                    field.map(|field| (&field.node, field.place))
                }
                _ => None,
            };
            let Some(found) = found else {
                break;
            };
            (node, place) = found;
        }
        place
    }
}

struct Loader<'a> {
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Loader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Place), Broken> {
        give_way();
        match self.events.next_event() {
            Some(Ok((event, span))) => Ok((event, Place::of(span))),
            Some(Err(error)) => Err(broken(&error)),
            None => Ok((Event::StreamEnd, Place::default())),
        }
    }

    fn document(&mut self) -> Result<Node, Broken> {
        let mut document = None;
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart
                | Event::Nothing
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
                _ if document.is_some() => {
                    return Err((place, "expected one document, found a second".to_owned()));
                }
                event => document = Some(self.node(event, place, DEPTH_MAX)?),
            }
        }
        Ok(document.unwrap_or_else(Node::nothing))
    }

    fn node(&mut self, event: Event<'a>, place: Place, depth: usize) -> Result<Node, Broken> {
        self.count(1, place)?;
        if depth == 0 {
            let text = format!("expected at most {DEPTH_MAX} levels");
            return Err((place, text));
        }
        let (what, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (scalar(&text, style, tag.as_deref(), place)?, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                untagged(tag.as_deref(), "seq", place)?;
                (What::List(self.list(depth)?), anchor)
            }
            Event::MappingStart(anchor, tag) => {
                untagged(tag.as_deref(), "map", place)?;
                (What::Fields(self.fields(depth)?), anchor)
            }
            Event::Alias(anchor) => return self.alias(anchor, place),
            _ => return Err((place, "expected a value".to_owned())),
        };
        let node = Node { place, what };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Broken> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(list),
                (event, place) => list.push(self.node(event, place, depth - 1)?),
            }
        }
    }

    fn fields(&mut self, depth: usize) -> Result<Vec<Field>, Broken> {
        let mut fields: Vec<Field> = Vec::new();
        let mut names = HashMap::new();
        loop {
            let (name, place) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(fields),
                (Event::Scalar(name, ..), place) => (name.into_owned(), place),
                (_, place) => return Err((place, "expected the name of a field".to_owned())),
            };
            if name == "<<" {
                let text = "expected no merge key: write the fields out, or use an alias for a whole value";
                return Err((place, text.to_owned()));
            }
            if let Some(first) = given_at(&name, place, &fields, &mut names) {
                let text = format!("expected `{name}` once, and it is at {first} already");
                return Err((place, text));
            }
            let (event, at) = self.next()?;
            let node = self.node(event, at, depth - 1)?;
            fields.push(Field { name, place, node });
        }
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<Node, Broken> {
        // One that is inside of what it names is not known yet.
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err((place, "expected an alias of something before it".to_owned()));
        };
        self.count(size(&node), place)?;
        Ok(node)
    }

    fn count(&mut self, more: usize, place: Place) -> Result<(), Broken> {
        self.nodes += more;
        if self.nodes > NODES_MAX {
            let text = format!("expected at most {NODES_MAX} values, aliases counted out");
            return Err((place, text));
        }
        Ok(())
    }
}

/// Where a name among fields was given already. It is looked for in a map where they are many.
fn given_at(
    name: &str,
    place: Place,
    fields: &[Field],
    names: &mut HashMap<String, Place>,
) -> Option<Place> {
    if fields.len() < FIELDS_FEW {
        let mut fields = fields.iter();
        return fields
            .find(|field| field.name == name)
            .map(|field| field.place);
    }
    if names.is_empty() {
        let known = fields.iter().map(|field| (field.name.clone(), field.place));
        names.extend(known);
    }
    names.insert(name.to_owned(), place)
}

fn size(node: &Node) -> usize {
    let inside: usize = match &node.what {
        What::List(list) => list.iter().map(size).sum(),
        What::Fields(fields) => fields.iter().map(|field| size(&field.node)).sum(),
        _ => 0,
    };
    inside + 1
}

#[cold]
fn broken(error: &ScanError) -> Broken {
    let mark = error.marker();
    let place = Place {
        line: mark.line(),
        column: mark.col() + 1,
    };
    (place, error.info().to_owned())
}

fn untagged(tag: Option<&Tag>, expected: &str, place: Place) -> Result<(), Broken> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == expected) => {
            Err((place, format!("expected no tag, found `{tag}`")))
        }
        _ => Ok(()),
    }
}

/// The value of a scalar by YAML 1.2's core schema: `yes` and `on` are texts.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, place: Place) -> Result<What, Broken> {
    match tag {
        None if style == ScalarStyle::Plain => Ok(plain(text)),
        None => Ok(What::Text(text.to_owned())),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => {
            Ok(What::Text(text.to_owned()))
        }
        Some(tag) => {
            let what = plain(text);
            let fits = match &what {
                What::Null => tag.suffix == "null",
                What::Flag(_) => tag.suffix == "bool",
                What::Integer(_) => matches!(&*tag.suffix, "int" | "float"),
                What::Decimal(_) => tag.suffix == "float",
                _ => false,
            };
            if fits && tag.is_yaml_core_schema() {
                Ok(what)
            } else {
                Err((place, format!("expected no tag, found `{tag}`")))
            }
        }
    }
}

fn plain(text: &str) -> What {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return What::Null,
        "true" | "True" | "TRUE" => return What::Flag(true),
        "false" | "False" | "FALSE" => return What::Flag(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let number = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    if number && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        if let Ok(number) = text.parse() {
            return What::Integer(number);
        }
    } else if number
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte))
        && let Ok(number) = text.parse::<f64>()
        && number.is_finite()
    {
        return What::Decimal(number);
    }
    What::Text(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Node::parse(text).unwrap().value()
    }

    #[test]
    fn values_are_what_yamls_core_schema_says() {
        let text = "a: yes\nb: true\nc: 10\nd: 1.5\ne: ~\nf: \"10\"\ng: !!str 3\nh: 1.2.3\ni: -7\nj: 007x\nk: 3.0";
        let expected = serde_json::json!({
            "a": "yes", "b": true, "c": 10, "d": 1.5, "e": null, "f": "10", "g": "3", "h": "1.2.3", "i": -7, "j": "007x",
            "k": 3.0
        });
        assert_eq!(value(text), expected);
        assert_eq!(
            value("{\"a\": [1, {\"b\": null}]}"),
            serde_json::json!({ "a": [1, { "b": null }] })
        );
        assert_eq!(value(""), Value::Null);
    }

    #[test]
    fn a_path_has_its_place_and_what_is_missing_that_of_its_owner() {
        let node = Node::parse("services:\n- name: a\n  routes:\n  - paths: [/x, /y]\n").unwrap();
        for (path, line, column) in [
            ("services[0].routes[0].paths[1]", 4, 17),
            ("services[0].name", 2, 3),
            ("services[0].host", 2, 3),
            ("services[0].routes[3]", 3, 3),
            ("plugins", 1, 1),
            ("", 1, 1),
        ] {
            assert_eq!(node.find(path), Place { line, column }, "{path}");
        }
    }

    #[test]
    fn an_alias_repeats_and_can_not_explode() {
        assert_eq!(
            value("a: &x [1, 2]\nb: *x"),
            serde_json::json!({ "a": [1, 2], "b": [1, 2] })
        );
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        let (_, said) = Node::parse(&bomb).unwrap_err();
        assert!(said.contains("at most"), "{said}");
    }

    #[test]
    fn what_is_broken_is_named_with_its_place() {
        let deep = "[".repeat(100);
        let mut many: String = (0..40).map(|at| format!("f{at}: 1\n")).collect();
        many.push_str("f1: 2\n");
        for (text, line, named) in [
            ("a: 1\na: 2", 2, "at 1:1 already"),
            (&many, 40, "`f1` once, and it is at 2:1"),
            ("a:\n  <<: {b: 1}", 2, "merge key"),
            ("a: !include x", 1, "no tag"),
            ("a: !!int x", 1, "no tag"),
            ("a: 1\n---\nb: 2", 3, "a second"),
            ("a: [1, 2", 1, ""),
            ("a: *x", 1, ""),
            ("a: &x [*x]", 1, "alias"),
            ("? [a]\n: b", 1, "name of a field"),
            (&deep, 1, "levels"),
        ] {
            let (place, said) = Node::parse(text).unwrap_err();
            assert!(said.contains(named), "{text}\n{said}");
            assert!(place.line >= line, "{text}\n{place}");
        }
    }
}
