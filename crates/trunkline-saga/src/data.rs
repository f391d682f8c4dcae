//! JSON that is kept as it was written.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use trunkline_core::{Error, ErrorKind, Result};

/// How large one input, output or message may be.
pub const DATA_BYTES_MAX: usize = 1024 * 1024;

/// A value in the journal: JSON text that is decoded only where somebody needs it.
///
/// # Shape
/// At most [`DATA_BYTES_MAX`] bytes. Two are equal when their texts are.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Data(Box<RawValue>);

impl Data {
    /// The JSON of a value.
    ///
    /// # Errors
    /// `InvalidInput` for what JSON can't say (a map with keys that are no text), `TooLarge` above the bound.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let raw = to_raw_value(value).map_err(|error| {
            Error::invalid("saga_data_invalid", "a value can't be written as JSON")
                .with("type", std::any::type_name::<T>())
                .with_source(error)
        })?;
        Self(raw).bounded()
    }

    /// JSON text.
    ///
    /// # Errors
    /// `InvalidInput` for what is no JSON, `TooLarge` above the bound.
    pub fn parse(text: String) -> Result<Self> {
        let raw = RawValue::from_string(text).map_err(|error| {
            Error::invalid("saga_data_invalid", "expected JSON").with_source(error)
        })?;
        Self(raw).bounded()
    }

    /// The JSON `null`.
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned())
    }

    /// The value that it says.
    ///
    /// # Errors
    /// `Corrupt` when it is no `T`, with where it stops to fit.
    pub fn get<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(self.text()).map_err(|error| {
            Error::new(
                ErrorKind::Corrupt,
                "saga_data_unreadable",
                "what the journal holds no longer decodes",
            )
            .with("expected", std::any::type_name::<T>())
            .with_source(error)
        })
    }

    /// Its text.
    pub fn text(&self) -> &str {
        self.0.get()
    }

    fn bounded(self) -> Result<Self> {
        let bytes = self.text().len();
        if bytes > DATA_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "saga_data_too_large",
                "a saga's input, output or message is larger than its bound",
            )
            .with("bytes", bytes)
            .with("bytes_max", DATA_BYTES_MAX));
        }
        Ok(self)
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Data {}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
