//! The schemas that this process knows, ready to check data.

use std::collections::BTreeMap;
use std::fmt;

use jsonschema::Validator;
use serde_json::Value;

use super::changes;
use crate::{Envelope, Error, EventDecl, Result, Version};

/// How many mistakes one error names.
const MISTAKES_MAX: usize = 8;

/// The schemas of event types, by type and version.
///
/// ```
/// use serde_json::json;
/// use trunkline_core::{Version, schema::Registry};
///
/// let mut registry = Registry::default();
/// let schema = json!({"type": "object", "properties": {"total": {"type": "number"}}});
/// registry.register("order.created", Version::new(1, 0), schema)?;
/// let error = registry.validate("order.created", Version::new(1, 0), br#"{"total": "x"}"#);
/// assert!(error.unwrap_err().to_string().contains("/total"));
/// # Ok::<(), trunkline_core::Error>(())
/// ```
#[derive(Default)]
pub struct Registry {
    types: BTreeMap<String, BTreeMap<Version, Entry>>,
}

struct Entry {
    schema: Value,
    validator: Validator,
}

impl Registry {
    /// The schemas of these declarations.
    ///
    /// # Errors
    /// As [`Registry::register`].
    pub fn of<'a>(declarations: impl IntoIterator<Item = &'a EventDecl>) -> Result<Self> {
        let mut registry = Self::default();
        for decl in declarations {
            registry.register(decl.event_type, decl.version, decl.schema())?;
        }
        Ok(registry)
    }

    /// Adds the schema (draft 2020-12) of one version of a type. The same again changes nothing.
    ///
    /// # Errors
    /// `InvalidInput` when it is no schema; `Conflict` when the version has another schema already:
    /// the error names the first field that differs.
    pub fn register(&mut self, event_type: &str, version: Version, schema: Value) -> Result<()> {
        let about = |error: Error| error.with("type", event_type).with("version", version);
        if let Some(known) = self.schema(event_type, version) {
            return match changes(known, &schema).first() {
                None => Ok(()),
                Some(change) => Err(about(
                    Error::conflict("schema_differs", "the version has another schema already")
                        .with("change", change),
                )),
            };
        }
        let validator = jsonschema::draft202012::new(&schema).map_err(|error| {
            about(
                Error::invalid("schema_invalid", "expected a JSON Schema of draft 2020-12")
                    .with("reason", error),
            )
        })?;
        let versions = self.types.entry(event_type.to_owned()).or_default();
        versions.insert(version, Entry { schema, validator });
        Ok(())
    }

    /// The schema of one version.
    pub fn schema(&self, event_type: &str, version: Version) -> Option<&Value> {
        Some(&self.types.get(event_type)?.get(&version)?.schema)
    }

    /// The versions of a type, oldest first.
    pub fn versions(&self, event_type: &str) -> impl Iterator<Item = Version> {
        self.types
            .get(event_type)
            .into_iter()
            .flat_map(|versions| versions.keys().copied())
    }

    /// The types, sorted.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        self.types.keys().map(String::as_str)
    }

    /// Checks an event's data; one whose data is not JSON has no schema to fail.
    ///
    /// # Errors
    /// As [`Registry::validate`].
    pub fn validate_event(&self, event: &Envelope) -> Result<()> {
        if event.is_json() {
            self.validate(&event.event_type, event.version, &event.data)
        } else {
            Ok(())
        }
    }

    /// Checks JSON data against the schema of its version; a newer minor version than any known is
    /// checked against the newest known one of its major version, an older unknown one against the
    /// next that is known.
    ///
    /// # Errors
    /// `InvalidInput`: `event_data_invalid` names each mistake's place as a JSON pointer, and never
    /// the value that stands there. `NotFound`: no schema of the type and major version is known.
    pub fn validate(&self, event_type: &str, version: Version, data: &[u8]) -> Result<()> {
        let about = |error: Error| error.with("type", event_type).with("version", version);
        let invalid = || Error::invalid("event_data_invalid", "the event's data fails its schema");
        let entry = self.entry(event_type, version).ok_or_else(|| {
            about(Error::not_found(
                "schema_unknown",
                "no schema of the event's version is known",
            ))
        })?;
        let value: Value =
            serde_json::from_slice(data).map_err(|error| about(invalid()).with_source(error))?;
        if entry.validator.is_valid(&value) {
            return Ok(());
        }
        let mut error = about(invalid());
        for mistake in entry.validator.iter_errors(&value).take(MISTAKES_MAX) {
            let path = mistake.instance_path().as_str();
            let path = if path.is_empty() { "/" } else { path };
            error = error.with("at", format!("{path}: {}", mistake.masked()));
        }
        Err(error)
    }

    fn entry(&self, event_type: &str, version: Version) -> Option<&Entry> {
        let versions = self.types.get(event_type)?;
        let last = Version::new(version.major, u16::MAX);
        let first = Version::new(version.major, 0);
        let next = versions.range(version..=last).next();
        next.or_else(|| versions.range(first..=last).next_back())
            .map(|(_, entry)| entry)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions = |(name, versions): (&String, &BTreeMap<Version, Entry>)| {
            (
                name.clone(),
                versions.keys().map(Version::to_string).collect::<Vec<_>>(),
            )
        };
        f.debug_map()
            .entries(self.types.iter().map(versions))
            .finish()
    }
}

#[cfg(test)]
mod tests;
