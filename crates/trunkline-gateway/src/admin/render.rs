//! A document as a file again: what belongs to one thing stands inside of it, as `deck` writes it.

use std::collections::HashMap;
use std::io;

use serde_json::{Map, Value};
use trunkline_core::{Error, Result};
use yaml_serde::{Mapping, Value as Yaml};

use super::document::{Document, Entity};
use super::kinds::{Kind, SHAPES, Shape};
use crate::beside::give_way;

/// The format's version of a file that says none.
const VERSION: &str = "3.0";
/// Fields that are told first, in this order.
const FIRST: [&str; 8] = [
    "name",
    "username",
    "custom_id",
    "id",
    "url",
    "protocol",
    "host",
    "port",
];

/// A file, and where in it each entity stands, by its kind and id.
pub(crate) struct Rendered {
    pub(crate) text: String,
    places: Vec<(Kind, String, String)>,
}

impl Rendered {
    /// The path of an entity, such as `services[0].routes[1]`.
    pub(crate) fn place_of(&self, kind: Kind, id: &str) -> Option<&str> {
        let mut places = self.places.iter();
        let place = places.find(|(other, known, _)| *other == kind && known == id)?;
        Some(&place.2)
    }
}

impl Document {
    /// Writes it as YAML.
    ///
    /// # Errors
    /// `Internal`: never, for what was read.
    pub(crate) fn render(&self) -> Result<Rendered> {
        let mut writer = Writer {
            known: HashMap::with_capacity(self.entities.len()),
            inside: HashMap::new(),
            places: Vec::with_capacity(self.entities.len()),
        };
        for entity in &self.entities {
            give_way();
            writer.known.insert((entity.kind, &entity.id), entity);
            let owner = nest(entity).and_then(|kind| Some((kind, entity.owner(kind)?)));
            let place = writer.inside.entry((owner, entity.kind)).or_default();
            place.push(entity);
        }
        let mut root = Mapping::new();
        let version = self.head.get("_format_version").cloned();
        let version = version.unwrap_or_else(|| Value::from(VERSION));
        root.insert("_format_version".into(), yaml(&version));
        for (name, value) in &self.head {
            if name != "_format_version" {
                root.insert(Yaml::from(&**name), yaml(value));
            }
        }
        for shape in &SHAPES {
            writer.list(&mut root, (shape, ""), None);
        }
        let text = text_of(&Yaml::Mapping(root))?;
        Ok(Rendered {
            text,
            places: writer.places,
        })
    }
}

fn text_of(root: &Yaml) -> Result<String> {
    /// Gives way as it is written to.
    struct Bytes(Vec<u8>);

    impl io::Write for Bytes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            give_way();
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut bytes = Bytes(Vec::new());
    yaml_serde::to_writer(&mut bytes, root)
        .map_err(|error| Error::internal("a document is YAML").with_source(error))?;
    String::from_utf8(bytes.0).map_err(|error| Error::internal("YAML is UTF-8").with_source(error))
}

/// What something stands inside of: its kind and id; nothing is the file itself.
type Inside<'a> = Option<(Kind, &'a str)>;

struct Writer<'a> {
    known: HashMap<(Kind, &'a str), &'a Entity>,
    inside: HashMap<(Inside<'a>, Kind), Vec<&'a Entity>>,
    places: Vec<(Kind, String, String)>,
}

impl<'a> Writer<'a> {
    fn list(&mut self, into: &mut Mapping, (shape, path): (&Shape, &str), inside: Inside<'a>) {
        let entities = self.inside.remove(&(inside, shape.kind));
        let mut items = Vec::new();
        for entity in entities.unwrap_or_default() {
            let dot = if path.is_empty() { "" } else { "." };
            let path = format!("{path}{dot}{}[{}]", shape.list, items.len());
            items.push(Yaml::Mapping(self.entity(entity, path)));
        }
        if !items.is_empty() {
            into.insert(shape.list.into(), Yaml::Sequence(items));
        }
    }

    fn entity(&mut self, entity: &'a Entity, path: String) -> Mapping {
        give_way();
        let mut fields = entity.fields.clone();
        if entity.has_id {
            fields.insert("id".to_owned(), Value::from(&*entity.id));
        }
        for (kind, id) in &entity.owners {
            // A plugin of a route says nothing of its service.
            let is_told = nest(entity) == Some(*kind) || *kind == Kind::Service;
            if is_told {
                continue;
            }
            let owner = self.known.get(&(*kind, &**id));
            let called = owner.and_then(|owner| {
                let mut names = kind.shape().names.iter();
                names.find_map(|name| owner.fields.get(*name)).cloned()
            });
            let called = called.unwrap_or_else(|| Value::from(&**id));
            fields.insert(kind.shape().field.to_owned(), called);
        }
        let mut mapping = Mapping::new();
        let first = FIRST.iter().filter_map(|name| fields.get_key_value(*name));
        let others = fields.iter().filter(|(name, _)| !FIRST.contains(&&***name));
        for (name, value) in first.chain(others) {
            mapping.insert(Yaml::from(&**name), yaml(value));
        }
        for inner in SHAPES.iter().filter(|inner| entity.kind.holds(inner)) {
            self.list(
                &mut mapping,
                (inner, &path),
                Some((entity.kind, &entity.id)),
            );
        }
        self.places.push((entity.kind, entity.id.clone(), path));
        mapping
    }
}

/// The kind of the owner that it is written inside of.
fn nest(entity: &Entity) -> Option<Kind> {
    let shape = entity.kind.shape();
    shape
        .owners
        .iter()
        .copied()
        .find(|kind| kind.holds(shape) && entity.owner(*kind).is_some())
}

fn yaml(value: &Value) -> Yaml {
    match value {
        Value::Null => Yaml::Null,
        Value::Bool(flag) => Yaml::Bool(*flag),
        Value::Number(number) => number.as_i64().map_or_else(
            || number.as_f64().map_or(Yaml::Null, Yaml::from),
            Yaml::from,
        ),
        Value::String(text) => Yaml::String(text.clone()),
        Value::Array(items) => Yaml::Sequence(items.iter().map(yaml).collect()),
        Value::Object(fields) => Yaml::Mapping(mapping(fields)),
    }
}

fn mapping(fields: &Map<String, Value>) -> Mapping {
    let pairs = fields
        .iter()
        .map(|(name, value)| (Yaml::from(&**name), yaml(value)));
    pairs.collect()
}
