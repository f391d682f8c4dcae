//! An OpenAPI document, 3.0 or 3.1, as a table of operations.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use http::Method;
use jsonschema::{Draft, Registry};
use serde::Deserialize as _;
use serde_json::{Map, Value};
use trunkline_core::Error;

use super::operation::{Media, Operation};
use super::parameter::{Parameter, Place, Shape, Style, items_of};
use super::schema;
use crate::problem::wrong_method;

/// Where references of the document lead.
const BASE: &str = "openapi:document";
/// So many references may lead to one another.
const REFERENCES_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Document {
    /// Paths by the number of their parts; those with fewer places first.
    paths: HashMap<usize, Vec<Path>>,
    /// What the first of its servers' paths begins with.
    base: String,
}

/// An operation, and what a path has in its places, by their names.
type Found<'a> = (&'a Operation, Vec<(&'a str, String)>);

#[derive(Debug)]
struct Path {
    parts: Vec<Part>,
    operations: Vec<(Method, Operation)>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    /// A place, with what stands before and after it.
    Place(String, String, String),
}

impl Document {
    /// # Errors
    /// What can't be held to.
    pub(super) fn new(mut document: Value) -> Result<Self, String> {
        let version = document
            .get("openapi")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let draft = match version {
            version if version.starts_with("3.0.") => Draft::Draft4,
            version if version.starts_with("3.1.") => Draft::Draft202012,
            other => return Err(format!("expected `openapi` 3.0 or 3.1, found `{other}`")),
        };
        adapt(&mut document, draft == Draft::Draft4);
        let registry = Registry::new().draft(draft).add(BASE, document.clone());
        let registry = registry.and_then(jsonschema::RegistryBuilder::prepare);
        let registry = registry
            .map_err(|error| format!("expected references that lead somewhere: {error}"))?;
        let reader = Reader {
            document: &document,
            registry,
            draft,
        };
        let none = Map::new();
        let paths = document
            .get("paths")
            .and_then(Value::as_object)
            .unwrap_or(&none);
        let mut table: HashMap<usize, Vec<Path>> = HashMap::new();
        for (template, item) in paths {
            let path = reader
                .path(template, item)
                .map_err(|why| format!("{template}: {why}"))?;
            table.entry(path.parts.len()).or_default().push(path);
        }
        for paths in table.values_mut() {
            let texts = |path: &Path| {
                path.parts
                    .iter()
                    .map(|part| matches!(part, Part::Text(_)))
                    .collect::<Vec<_>>()
            };
            paths.sort_by_cached_key(|path| Reverse(texts(path)));
        }
        Ok(Self {
            paths: table,
            base: base_of(&document),
        })
    }

    /// The operation of a request, and what its path has in the places.
    ///
    /// # Errors
    /// `NotFound` (`operation_unknown`) and `Unsupported` (`method_not_allowed`).
    pub(super) fn find(&self, method: &Method, path: &str) -> Result<Found<'_>, Error> {
        let path = path.strip_prefix(&*self.base).unwrap_or(path);
        let given: Vec<_> = path.split('/').skip(1).collect();
        let mut allowed = Vec::new();
        for path in self.paths.get(&given.len()).into_iter().flatten() {
            let Some(captured) = path.captures(&given) else {
                continue;
            };
            let named = |wanted: &Method| {
                let mut operations = path.operations.iter();
                operations
                    .find(|(method, _)| method == wanted)
                    .map(|(_, operation)| operation)
            };
            let head = || named(&Method::GET).filter(|_| *method == Method::HEAD);
            if let Some(operation) = named(method).or_else(head) {
                return Ok((operation, captured));
            }
            allowed.extend(path.operations.iter().map(|(method, _)| method.clone()));
        }
        if allowed.is_empty() {
            return Err(Error::not_found(
                "operation_unknown",
                "the service declares no such path",
            ));
        }
        Err(wrong_method(&allowed))
    }
}

impl Path {
    fn captures(&self, given: &[&str]) -> Option<Vec<(&str, String)>> {
        let mut captured = Vec::new();
        for (part, given) in self.parts.iter().zip(given) {
            let given = decoded(given);
            match part {
                Part::Text(text) if *text == given => {}
                Part::Text(_) => return None,
                Part::Place(before, name, after) => {
                    let value = given.strip_prefix(&**before)?.strip_suffix(&**after)?;
                    if value.is_empty() {
                        return None;
                    }
                    captured.push((&**name, value.to_owned()));
                }
            }
        }
        Some(captured)
    }
}

/// The path that the first server's URL has.
fn base_of(document: &Value) -> String {
    let url = document.pointer("/servers/0/url").and_then(Value::as_str);
    let url = url.and_then(|url| url.parse::<http::Uri>().ok());
    let path = url.as_ref().map_or("", http::Uri::path);
    path.trim_end_matches('/').to_owned()
}

/// A part of a path without `%` escapes; one that is broken stays as it is.
fn decoded(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |digit: u8| {
            char::from(digit)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        match (first, after) {
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = after;
                    continue;
                }
                _ => bytes.push(*first),
            },
            _ => bytes.push(*first),
        }
        rest = after;
    }
    String::from_utf8(bytes).unwrap_or_else(|_| part.to_owned())
}

/// Makes the schemas of a document those of JSON Schema: `nullable` of 3.0, and fields that only answers have.
fn adapt(value: &mut Value, is_old: bool) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| adapt(item, is_old)),
        Value::Object(fields) => {
            fields.values_mut().for_each(|field| adapt(field, is_old));
            if is_old && fields.get("nullable") == Some(&Value::Bool(true)) {
                if let Some(kind) = fields.get("type").filter(|kind| kind.is_string()).cloned() {
                    fields.insert("type".to_owned(), Value::Array(vec![kind, "null".into()]));
                }
                if let Some(Value::Array(values)) = fields.get_mut("enum") {
                    values.push(Value::Null);
                }
            }
            let read_only: Vec<String> = match fields.get("properties") {
                Some(Value::Object(properties)) => {
                    let own = properties
                        .iter()
                        .filter(|(_, field)| field.get("readOnly") == Some(&Value::Bool(true)));
                    own.map(|(name, _)| name.clone()).collect()
                }
                _ => Vec::new(),
            };
            if let Some(Value::Array(required)) = fields.get_mut("required") {
                required.retain(|name| !read_only.iter().any(|own| *name == **own));
                // A list of none is no schema of draft 4.
                if required.is_empty() {
                    fields.remove("required");
                }
            }
        }
        _ => {}
    }
}

struct Reader<'a> {
    document: &'a Value,
    registry: Registry<'static>,
    draft: Draft,
}

impl<'a> Reader<'a> {
    fn path(&self, template: &str, item: &'a Value) -> Result<Path, String> {
        let parts = template
            .split('/')
            .skip(1)
            .map(part)
            .collect::<Result<_, _>>()?;
        let item = self.followed(item)?;
        let mut operations = Vec::new();
        let methods = [
            "get", "put", "post", "delete", "options", "head", "patch", "trace",
        ];
        for name in methods {
            let Some(operation) = item.get(name) else {
                continue;
            };
            let method = Method::from_bytes(name.to_ascii_uppercase().as_bytes());
            let method = method.map_err(|_| "expected a method".to_owned())?;
            let operation = self.operation(item, operation);
            operations.push((method, operation.map_err(|why| format!("{name}: {why}"))?));
        }
        Ok(Path { parts, operations })
    }

    fn operation(&self, item: &'a Value, operation: &'a Value) -> Result<Operation, String> {
        let mut parameters: Vec<Parameter> = Vec::new();
        // Those of the operation go before those of the path.
        for owner in [operation, item] {
            let list = owner.get("parameters").and_then(Value::as_array);
            for given in list.into_iter().flatten() {
                let given = self.followed(given)?;
                let name = given
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let parameter = self.parameter(given, name);
                let parameter = parameter.map_err(|why| format!("parameter {name}: {why}"))?;
                if let Some((place, parameter)) = parameter
                    && !parameters.iter().any(|known| known.is(place, name))
                {
                    parameters.push(parameter);
                }
            }
        }
        let body = operation
            .get("requestBody")
            .map(|body| self.followed(body))
            .transpose()?;
        let media = body.and_then(|body| body.get("content")?.as_object());
        let media = media.map(|content| {
            let media = content.iter().map(|(name, media)| self.media(name, media));
            media.collect::<Result<Vec<_>, _>>()
        });
        let is_required = body.and_then(|body| body.get("required")) == Some(&Value::Bool(true));
        Ok(Operation {
            parameters,
            media: media.transpose()?,
            is_required,
        })
    }

    fn media(&self, name: &str, media: &Value) -> Result<Media, String> {
        let compiled = media.get("schema").map(|schema| self.schema(schema));
        let compiled = compiled
            .transpose()
            .map_err(|why| format!("body as {name}: {why}"))?;
        let media = Media::parse(name, false, compiled.map(Arc::new));
        media.ok_or_else(|| format!("expected a content type, found `{name}`"))
    }

    /// A parameter with its place; none for a cookie's, which nobody looks at.
    fn parameter(
        &self,
        given: &'a Value,
        name: &str,
    ) -> Result<Option<(Place, Parameter)>, String> {
        let place = match given.get("in").and_then(Value::as_str) {
            Some("query") => Place::Query,
            Some("path") => Place::Path,
            Some("header") => Place::Header,
            Some("cookie") => return Ok(None),
            _ => return Err("expected `in`: query, path, header or cookie".to_owned()),
        };
        let style = given.get("style").map(Style::deserialize).transpose();
        let schema = given.get("schema");
        let plain = schema.map(|schema| self.followed(schema)).transpose()?;
        let items = plain
            .and_then(items_of)
            .map(|items| self.followed(items))
            .transpose()?;
        let shape = Shape {
            place,
            name,
            is_required: given.get("required") == Some(&Value::Bool(true)),
            style: style.map_err(|_| "expected a known style".to_owned())?,
            explode: given.get("explode").and_then(Value::as_bool),
            plain,
            items,
        };
        let compiled = schema.map(|schema| self.schema(schema)).transpose()?;
        let parameter = shape.with(compiled).map_err(|(_, expected)| expected)?;
        Ok(Some((place, parameter)))
    }

    fn schema(&self, schema: &Value) -> Result<jsonschema::Validator, String> {
        let mut schema = schema.clone();
        lead_to_document(&mut schema);
        schema::compile(&schema, self.draft, Some(&self.registry))
    }

    /// What a value is, or what its reference leads to.
    fn followed(&self, value: &'a Value) -> Result<&'a Value, String> {
        let mut value = value;
        for _ in 0..REFERENCES_MAX {
            let Some(reference) = value.get("$ref").and_then(Value::as_str) else {
                return Ok(value);
            };
            let found = reference
                .strip_prefix('#')
                .and_then(|pointer| self.document.pointer(&decoded(pointer)));
            value = found.ok_or_else(|| {
                format!("expected `{reference}` to lead somewhere in the document")
            })?;
        }
        Err("expected references that come to an end".to_owned())
    }
}

/// A schema that stands alone finds what it refers to in the document.
fn lead_to_document(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(lead_to_document),
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                match field {
                    Value::String(text) if name == "$ref" && text.starts_with('#') => {
                        *text = format!("{BASE}{text}");
                    }
                    field => lead_to_document(field),
                }
            }
        }
        _ => {}
    }
}

fn part(text: &str) -> Result<Part, String> {
    let Some((before, rest)) = text.split_once('{') else {
        return Ok(Part::Text(decoded(text)));
    };
    let (name, after) = rest.split_once('}').ok_or("expected `}` after `{`")?;
    if after.contains('{') {
        return Err("expected one place between two `/`".to_owned());
    }
    Ok(Part::Place(
        before.to_owned(),
        name.to_owned(),
        after.to_owned(),
    ))
}

#[cfg(test)]
mod tests;
