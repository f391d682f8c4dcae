//! The schemas as files: `schemas/<type>/<version>.json`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Mode, changes, compatible};
use crate::{Error, EventDecl, Result, Version};

/// One reason why declared events and stored schemas do not agree.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The event's type.
    pub event_type: String,
    /// The version that is declared.
    pub version: Version,
    /// The field, or empty when it is about the whole.
    pub path: String,
    /// What is wrong and what to do.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.event_type, self.version)?;
        if !self.path.is_empty() {
            write!(f, ", {}", self.path)?;
        }
        write!(f, ": {}", self.text)
    }
}

/// Compares the declared events with the stored schemas.
///
/// # Errors
/// `Conflict`, code `schemas_differ`, with every [`Problem`] as a fact; else as [`problems_in`].
pub fn check_dir(dir: &Path, declarations: &[EventDecl]) -> Result<()> {
    let problems = problems_in(dir, declarations)?;
    if problems.is_empty() {
        return Ok(());
    }
    let error = Error::conflict(
        "schemas_differ",
        "declared events differ from the stored schemas",
    )
    .with("dir", dir.display());
    Err(problems
        .iter()
        .fold(error, |error, problem| error.with("problem", problem)))
}

/// Lists what is wrong: a version without a file, a schema that changed under the same version, a
/// minor version that can't read what an earlier one of its major version wrote and has no upcast
/// from it.
///
/// # Errors
/// `Corrupt` when a file is not JSON or is not named by a version; `Internal` when it can't be read.
pub fn problems_in(dir: &Path, declarations: &[EventDecl]) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for decl in declarations {
        let stored = stored(dir, decl.event_type)?;
        let schema = decl.schema();
        let mut problem = |path: String, text: String| {
            let event_type = decl.event_type.to_owned();
            problems.push(Problem {
                event_type,
                version: decl.version,
                path,
                text,
            });
        };
        match stored.get(&decl.version) {
            None => problem(
                String::new(),
                "the version has no stored schema: write it".into(),
            ),
            Some(known) => {
                for change in changes(known, &schema) {
                    let text = format!("{}: declare a new version of the event", change.what);
                    problem(change.path, text);
                }
            }
        }
        let first = Version::new(decl.version.major, 0);
        for (earlier, known) in stored.range(first..decl.version) {
            // An upcaster makes of the earlier what this version reads.
            let mut steps = decl.upcasts.iter().map(|step| step.from);
            if steps.any(|from| from.major == earlier.major && from >= *earlier) {
                continue;
            }
            for difference in compatible(known, &schema, Mode::Backward) {
                let text = format!(
                    "can't read what {earlier} wrote: {}: {}; add an upcast or declare a new major version",
                    difference.what, difference.why
                );
                problem(difference.path, text);
            }
        }
        for other in declarations {
            let same = (other.event_type, other.version) == (decl.event_type, decl.version);
            let change = if same {
                changes(&schema, &other.schema()).into_iter().next()
            } else {
                None
            };
            if let Some(change) = change {
                problem(
                    change.path,
                    format!("declared twice with different types: {}", change.what),
                );
            }
        }
    }
    Ok(problems)
}

/// Writes the schemas of versions that have no file yet, and says which. A file that exists is left
/// as it is: what has been published does not change.
///
/// # Errors
/// `Internal` when a file can't be written.
pub fn write_dir(dir: &Path, declarations: &[EventDecl]) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for decl in declarations {
        let path = folder(dir, decl.event_type).join(format!("{}.json", decl.version));
        if path
            .try_exists()
            .map_err(|error| failed("read", &path, error))?
        {
            continue;
        }
        let mut text = format!("{:#}", decl.schema());
        text.push('\n');
        let parent = path.parent().unwrap_or(dir);
        fs::create_dir_all(parent).map_err(|error| failed("write", parent, error))?;
        fs::write(&path, text).map_err(|error| failed("write", &path, error))?;
        written.push(path);
    }
    Ok(written)
}

/// A type's folder; a character that not every file system takes is written as `-`.
fn folder(dir: &Path, event_type: &str) -> PathBuf {
    dir.join(event_type.replace([':', '/', '\\'], "-"))
}

fn stored(dir: &Path, event_type: &str) -> Result<BTreeMap<Version, Value>> {
    let folder = folder(dir, event_type);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(failed("read", &folder, error)),
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let path = entry
            .map_err(|error| failed("read", &folder, error))?
            .path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let corrupt = |expected: &'static str| {
            Error::new(crate::ErrorKind::Corrupt, "schema_file_invalid", expected)
                .with("file", path.display())
        };
        let version: Version = name.parse().map_err(|error: Error| {
            corrupt("expected a file named by a version").with_source(error)
        })?;
        let text = fs::read(&path).map_err(|error| failed("read", &path, error))?;
        let schema = serde_json::from_slice(&text)
            .map_err(|error| corrupt("expected a JSON Schema").with_source(error))?;
        found.insert(version, schema);
    }
    Ok(found)
}

fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::internal(format!("can't {what} a schema"))
        .with("file", path.display())
        .with_source(error)
}

#[cfg(test)]
mod tests;
