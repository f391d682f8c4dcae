//! What one operation takes.

use std::sync::Arc;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use jsonschema::Validator;
use trunkline_core::Error;

use super::json::Plain;
use super::parameter::Parameter;
use super::schema::{check, invalid};
use crate::plugin::Exchange;
use crate::problem::CONTENT_TYPE_NOT_ALLOWED;

#[derive(Debug)]
pub(super) struct Operation {
    pub(super) parameters: Vec<Parameter>,
    /// What a body may be; none where it is not looked at.
    pub(super) media: Option<Vec<Media>>,
    pub(super) is_required: bool,
}

/// A type of content, and the schema of what is in it, if it is JSON.
#[derive(Debug)]
pub(super) struct Media {
    name: Name,
    /// `charset=utf-8` and the like; none where they are not looked at.
    parameters: Option<Vec<String>>,
    schema: Option<Arc<Validator>>,
}

#[derive(Debug)]
enum Name {
    Any,
    /// `application/`
    Below(String),
    Exact(String),
}

impl Media {
    /// A type by its name: `*/*`, `text/*`, `application/json; charset=utf-8`.
    pub(super) fn parse(text: &str, strict: bool, schema: Option<Arc<Validator>>) -> Option<Self> {
        let (name, parameters) = split(text)?;
        let name = match name.strip_suffix('*') {
            Some("*/") => Name::Any,
            Some(below) => Name::Below(below.to_owned()),
            None => Name::Exact(name),
        };
        Some(Self {
            name,
            parameters: strict.then_some(parameters),
            schema,
        })
    }

    fn fits(&self, name: &str, parameters: &[String]) -> bool {
        let fits = match &self.name {
            Name::Any => true,
            Name::Below(below) => name.starts_with(&**below),
            Name::Exact(exact) => exact == name,
        };
        fits && self
            .parameters
            .as_deref()
            .is_none_or(|own| own == parameters)
    }

    /// How closely a type is named: the more, the better it fits.
    fn closeness(&self) -> usize {
        match &self.name {
            Name::Any => 0,
            Name::Below(_) => 1,
            Name::Exact(_) => 2,
        }
    }
}

/// The type and its parameters, in small letters but for their values.
fn split(text: &str) -> Option<(String, Vec<String>)> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next()?.to_ascii_lowercase();
    let (main, sub) = name.split_once('/')?;
    if main.is_empty() || sub.is_empty() {
        return None;
    }
    let parameter = |part: &str| match part.split_once('=') {
        // The one parameter whose value has no case.
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            let value = value.trim_matches('"').to_ascii_lowercase();
            format!("charset={value}")
        }
        Some((name, value)) => format!("{}={value}", name.to_ascii_lowercase()),
        None => part.to_ascii_lowercase(),
    };
    let parameters = parts.filter(|part| !part.is_empty()).map(parameter);
    let mut parameters: Vec<_> = parameters.collect();
    parameters.sort_unstable();
    Some((name, parameters))
}

impl Operation {
    /// Checks everything but the body.
    ///
    /// # Errors
    /// `InvalidInput` (`request_invalid`).
    pub(super) fn check_parameters(
        &self,
        exchange: &Exchange,
        captured: &[(&str, String)],
        tells: bool,
    ) -> Result<(), Error> {
        let query = exchange.request.uri.query().unwrap_or_default();
        let mut pairs: Vec<_> = Vec::new();
        if self.parameters.iter().any(Parameter::is_query) {
            pairs.extend(form_urlencoded::parse(query.as_bytes()));
        }
        for parameter in &self.parameters {
            parameter.check(exchange, captured, &pairs, tells)?;
        }
        Ok(())
    }

    /// How the body is to be read; none where it is not looked at, or there is none and need not be.
    ///
    /// # Errors
    /// `InvalidInput`: `content_type_not_allowed`, and `request_invalid` for a body that has to be there.
    pub(super) fn media_of(
        &self,
        headers: &HeaderMap,
        body_bytes: Option<u64>,
    ) -> Result<Option<&Media>, Error> {
        let Some(media) = &self.media else {
            return Ok(None);
        };
        let is_empty = body_bytes == Some(0);
        match headers.get(CONTENT_TYPE) {
            None if is_empty && self.is_required => Err(invalid("body: expected one")),
            None if is_empty => Ok(None),
            given => {
                let given = given.and_then(|value| value.to_str().ok()).and_then(split);
                let fitting = given.iter().flat_map(|(name, parameters)| {
                    media.iter().filter(|media| media.fits(name, parameters))
                });
                let closest = fitting.max_by_key(|media| media.closeness());
                let refused = || {
                    let text = "expected another content type of the body";
                    Error::invalid(CONTENT_TYPE_NOT_ALLOWED, text)
                };
                closest.map(Some).ok_or_else(refused)
            }
        }
    }

    /// Checks the body, if it is JSON.
    ///
    /// # Errors
    /// `InvalidInput` (`request_invalid`).
    pub(super) fn check_body(&self, media: &Media, body: &[u8], tells: bool) -> Result<(), Error> {
        if body.is_empty() {
            return match self.is_required {
                true => Err(invalid("body: expected one")),
                false => Ok(()),
            };
        }
        let Some(schema) = media.schema.as_ref().filter(|_| media.is_json()) else {
            return Ok(());
        };
        let Plain(value) = serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let why = match error.classify() {
                serde_json::error::Category::Data => "each field once, found one twice",
                _ => "JSON, broken",
            };
            invalid(format!(
                "body: expected {why} at line {line}, column {column}"
            ))
        })?;
        check(schema, &value, "body", tells)
    }
}

impl Media {
    fn is_json(&self) -> bool {
        matches!(&self.name, Name::Exact(name) if name == "application/json" || name.ends_with("+json"))
    }
}
