//! JSON Schemas, and what is said of a value that fails one.

use jsonschema::{PatternOptions, Registry, ValidationOptions, Validator};
use serde_json::Value;
use trunkline_core::Error;

use crate::problem::REQUEST_INVALID;

pub(super) use jsonschema::Draft;

/// How many mistakes one answer names.
const MISTAKES_MAX: usize = 8;
/// What one pattern may take when it is compiled.
const PATTERN_BYTES_MAX: usize = 256 * 1024;
/// The longest schema of the settings.
const SCHEMA_BYTES_MAX: usize = 1024 * 1024;

/// A schema of the settings.
///
/// # Errors
/// What was expected.
pub(super) fn parse(text: &str, draft: Draft) -> Result<Validator, String> {
    let schema = value(text)?;
    compile(&schema, draft, None)
}

/// The text of a schema as JSON: an object.
pub(super) fn value(text: &str) -> Result<Value, String> {
    if text.len() > SCHEMA_BYTES_MAX {
        return Err(format!("expected at most {SCHEMA_BYTES_MAX} bytes"));
    }
    let schema: Value = serde_json::from_str(text)
        .map_err(|error| format!("expected a JSON Schema as JSON: {error}"))?;
    if !schema.is_object() {
        let expected = "expected a JSON Schema: an object (Kong's own form of schemas, a list, is not known here)";
        return Err(expected.to_owned());
    }
    Ok(schema)
}

/// A schema, ready to be used. Nothing is fetched for it, and its patterns can't take for ever.
pub(super) fn compile(
    schema: &Value,
    draft: Draft,
    around: Option<&Registry<'_>>,
) -> Result<Validator, String> {
    let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX);
    let options: ValidationOptions<'_> = jsonschema::options();
    let options = options.with_draft(draft).with_pattern_options(patterns);
    let built = match around {
        Some(registry) => options.with_registry(registry).offline().build(schema),
        None => options.offline().build(schema),
    };
    built.map_err(|error| {
        let at = error.instance_path().as_str();
        format!("expected a JSON Schema: at `{at}`: {error}")
    })
}

/// Checks a value that stands at a place of the request, such as `body` or `query id`.
///
/// # Errors
/// `InvalidInput` (`request_invalid`) with each mistake's place and what was expected there.
pub(super) fn check(
    validator: &Validator,
    value: &Value,
    place: &str,
    tells: bool,
) -> Result<(), Error> {
    if validator.is_valid(value) {
        return Ok(());
    }
    if !tells {
        return Err(invalid(format!("{place}: not as its schema says")));
    }
    let mistakes = validator.iter_errors(value).take(MISTAKES_MAX);
    let mistakes: Vec<String> = mistakes
        .map(|mistake| format!("{place} {}: {}", pointer(&mistake), mistake.masked()))
        .collect();
    Err(invalid(mistakes.join("; ")))
}

fn pointer<'a>(mistake: &'a jsonschema::ValidationError<'_>) -> &'a str {
    match mistake.instance_path().as_str() {
        "" => "/",
        path => path,
    }
}

pub(super) fn invalid(text: impl Into<String>) -> Error {
    Error::invalid(REQUEST_INVALID, text.into())
}
