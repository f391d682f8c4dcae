//! Values that are kept as one word.

use serde::{Deserialize, Serialize};
use trunkline::{Error, Result};

/// The word that stands for a value in the tables, as in JSON.
pub(crate) fn word<T: Serialize>(value: &T) -> Result<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        _ => Err(Error::internal("a value is one word")),
    }
}

/// The value that such a word stands for.
pub(crate) fn of_word<T: for<'de> Deserialize<'de>>(word: String) -> Result<T> {
    serde_json::from_value(word.into())
        .map_err(|error| Error::internal("a word of the tables is known").with_source(error))
}
