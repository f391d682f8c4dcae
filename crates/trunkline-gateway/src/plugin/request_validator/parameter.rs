//! Parameters of the path, the query and headers: texts that a schema is held against.

use std::borrow::Cow;

use http::HeaderName;
use jsonschema::{Draft, Validator};
use serde::Deserialize;
use serde_json::{Map, Value};
use trunkline_core::Error;

use super::schema::{self, check, invalid};
use crate::plugin::{Exchange, Mistake, mistake};

/// One of Kong's `parameter_schema`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    #[serde(rename = "in")]
    place: Place,
    name: String,
    #[serde(default)]
    required: bool,
    style: Option<Style>,
    explode: Option<bool>,
    schema: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Place {
    Query,
    Header,
    Path,
}

/// How a list or an object is written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Style {
    Form,
    Simple,
    SpaceDelimited,
    PipeDelimited,
    DeepObject,
    Label,
    Matrix,
}

/// What a text stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Truth,
    List,
    Fields,
}

#[derive(Debug)]
pub(super) struct Parameter {
    place: Place,
    name: String,
    header: Option<HeaderName>,
    is_required: bool,
    kind: Kind,
    /// What the items of a list, or the fields of an object, stand for.
    inside: Kind,
    style: Style,
    explodes: bool,
    schema: Option<Validator>,
}

/// A parameter before its schema is compiled.
pub(super) struct Shape<'a> {
    pub(super) place: Place,
    pub(super) name: &'a str,
    pub(super) is_required: bool,
    pub(super) style: Option<Style>,
    pub(super) explode: Option<bool>,
    /// The schema, with references followed as far as its type.
    pub(super) plain: Option<&'a Value>,
    /// The type of what is inside, likewise.
    pub(super) items: Option<&'a Value>,
}

impl Settings {
    pub(super) fn parameter(&self, draft: Draft) -> Result<Parameter, Mistake> {
        let value = self.schema.as_deref().map(schema::value).transpose();
        let value = value.map_err(|why| mistake("schema", why))?;
        let compiled = value
            .as_ref()
            .map(|value| schema::compile(value, draft, None));
        let compiled = compiled.transpose().map_err(|why| mistake("schema", why))?;
        let items = value.as_ref().and_then(items_of);
        let shape = Shape {
            place: self.place,
            name: &self.name,
            is_required: self.required || self.place == Place::Path,
            style: self.style,
            explode: self.explode,
            plain: value.as_ref(),
            items,
        };
        shape.with(compiled)
    }
}

/// The schema of what is inside a list or an object, if it is one for all.
pub(super) fn items_of(schema: &Value) -> Option<&Value> {
    let items = schema.get("items");
    items
        .or_else(|| schema.get("additionalProperties"))
        .filter(|items| items.is_object())
}

impl Shape<'_> {
    pub(super) fn with(self, schema: Option<Validator>) -> Result<Parameter, Mistake> {
        let header = match self.place {
            Place::Header => Some(
                HeaderName::try_from(self.name)
                    .map_err(|_| mistake("name", "expected the name of a header"))?,
            ),
            _ if self.name.is_empty() => return Err(mistake("name", "expected a name")),
            _ => None,
        };
        let style = self.style.unwrap_or(match self.place {
            Place::Query => Style::Form,
            Place::Header | Place::Path => Style::Simple,
        });
        let kind = kind(self.plain);
        let explodes = self.explode.unwrap_or(style == Style::Form);
        let fits = match (self.place, style) {
            (Place::Query, Style::DeepObject) => kind == Kind::Fields,
            (Place::Query, Style::Form | Style::SpaceDelimited | Style::PipeDelimited) => {
                kind != Kind::Fields || style == Style::Form && !explodes
            }
            (Place::Header | Place::Path, Style::Simple) => true,
            _ => false,
        };
        if !fits {
            let expected = "expected form, spaceDelimited, pipeDelimited or deepObject for a query, simple for a header or a path, and deepObject or no `explode` for an object";
            return Err(mistake("style", expected));
        }
        Ok(Parameter {
            place: self.place,
            name: self.name.to_owned(),
            header,
            is_required: self.is_required,
            kind,
            inside: kind_inside(self.items),
            style,
            explodes,
            schema,
        })
    }
}

fn kind_inside(items: Option<&Value>) -> Kind {
    match kind(items) {
        Kind::List | Kind::Fields => Kind::Text,
        plain => plain,
    }
}

fn kind(schema: Option<&Value>) -> Kind {
    let named = schema.and_then(|schema| schema.get("type"));
    let name = match named {
        Some(Value::String(name)) => Some(&**name),
        Some(Value::Array(names)) => {
            let mut names = names.iter().filter_map(Value::as_str);
            names.find(|name| *name != "null")
        }
        _ => None,
    };
    match name {
        Some("integer" | "number") => Kind::Number,
        Some("boolean") => Kind::Truth,
        Some("array") => Kind::List,
        Some("object") => Kind::Fields,
        _ => Kind::Text,
    }
}

impl Parameter {
    pub(super) fn is_query(&self) -> bool {
        self.place == Place::Query
    }

    pub(super) fn is(&self, place: Place, name: &str) -> bool {
        self.place == place && self.name == name
    }

    /// # Errors
    /// `InvalidInput` (`request_invalid`).
    pub(super) fn check(
        &self,
        exchange: &Exchange,
        captured: &[(&str, String)],
        query: &[(Cow<'_, str>, Cow<'_, str>)],
        tells: bool,
    ) -> Result<(), Error> {
        let place = || {
            let place = match self.place {
                Place::Query => "query",
                Place::Header => "header",
                Place::Path => "path",
            };
            format!("{place} {}", self.name)
        };
        let own = query.iter().filter(|(name, _)| **name == *self.name);
        let is_list = self.kind == Kind::List && self.explodes;
        if self.is_query() && !is_list && own.count() > 1 {
            // Which of them the service takes is anybody's guess.
            return Err(invalid(format!("{}: expected one, found several", place())));
        }
        match self.value(exchange, captured, query) {
            None if self.is_required => Err(invalid(format!("{}: expected one", place()))),
            None => Ok(()),
            Some(value) => match &self.schema {
                Some(schema) => check(schema, &value, &place(), tells),
                None => Ok(()),
            },
        }
    }

    fn value(
        &self,
        exchange: &Exchange,
        captured: &[(&str, String)],
        query: &[(Cow<'_, str>, Cow<'_, str>)],
    ) -> Option<Value> {
        match self.place {
            Place::Header => {
                let values = exchange.request.headers.get_all(self.header.as_ref()?);
                let texts = values
                    .iter()
                    .map(|value| String::from_utf8_lossy(value.as_bytes()));
                let texts: Vec<_> = texts.collect();
                (!texts.is_empty()).then(|| self.read(&texts.join(",")))
            }
            Place::Path => {
                let own = captured.iter().find(|(name, _)| *name == self.name);
                let own = own.map(|(_, value)| &**value);
                let routes = exchange
                    .captures
                    .iter()
                    .find(|(name, _)| **name == *self.name);
                let text = own.or_else(|| routes.map(|(_, value)| &**value))?;
                Some(self.read(text))
            }
            Place::Query if self.style == Style::DeepObject => self.deep(query),
            Place::Query => {
                let own = query.iter().filter(|(name, _)| **name == *self.name);
                let texts: Vec<_> = own.map(|(_, value)| &**value).collect();
                let first = texts.first()?;
                if self.kind == Kind::List && self.explodes && self.style == Style::Form {
                    let items = texts.iter().map(|text| plain(self.inside, text));
                    return Some(Value::Array(items.collect()));
                }
                Some(self.read(first))
            }
        }
    }

    /// `name[field]=value`.
    fn deep(&self, query: &[(Cow<'_, str>, Cow<'_, str>)]) -> Option<Value> {
        let mut fields = Map::new();
        for (name, value) in query {
            let field = name
                .strip_prefix(&*self.name)
                .and_then(|rest| rest.strip_prefix('['))
                .and_then(|rest| rest.strip_suffix(']'));
            if let Some(field) = field {
                fields.insert(field.to_owned(), plain(self.inside, value));
            }
        }
        (!fields.is_empty()).then_some(Value::Object(fields))
    }

    /// A text as what it stands for; one that can't be that stays a text, which its schema then refuses.
    fn read(&self, text: &str) -> Value {
        let between = match self.style {
            Style::SpaceDelimited => ' ',
            Style::PipeDelimited => '|',
            _ => ',',
        };
        let mut parts = text.split(between).map(str::trim);
        match self.kind {
            Kind::List => parts.map(|part| plain(self.inside, part)).collect(),
            Kind::Fields if self.explodes => {
                let pairs = parts.filter_map(|part| part.split_once('='));
                let pairs = pairs.map(|(name, value)| (name.to_owned(), plain(self.inside, value)));
                Value::Object(pairs.collect())
            }
            Kind::Fields => {
                let mut fields = Map::new();
                while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
                    fields.insert(name.to_owned(), plain(self.inside, value));
                }
                Value::Object(fields)
            }
            kind => plain(kind, text),
        }
    }
}

fn plain(kind: Kind, text: &str) -> Value {
    match kind {
        Kind::Number => match serde_json::from_str(text) {
            Ok(Value::Number(number)) => Value::Number(number),
            _ => Value::from(text),
        },
        Kind::Truth => match text {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => Value::from(text),
        },
        _ => Value::from(text),
    }
}
