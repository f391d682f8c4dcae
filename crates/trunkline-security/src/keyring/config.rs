//! Where the keys of a ring come from.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use trunkline_core::{Env, Error, Result};

use super::Keyring;
use crate::{Secret, secret};

/// Where the keys of a ring come from: `[keys]` of the configuration. It holds no key, so it may be printed.
///
/// # Shape
/// ```toml
/// [keys]
/// seals = "2026-11"
/// open.2026-10 = "file:data/keys/2026-10"
/// open.2026-11 = "env:STORE_KEY_2026_11"
/// ```
/// A file holds 32 bytes in base64url and may be read by its owner alone; so does a variable hold them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct KeyringConfig {
    /// The id of the key that seals; it is one of those that open.
    pub seals: String,
    /// Each key's id and where it is: `file:PATH` or `env:NAME`.
    pub open: BTreeMap<String, String>,
    /// Whether data that must be sealed and is not is taken all the same: while senders are still to be brought up
    /// to date. Not by default.
    #[serde(default)]
    pub accept_unsealed: bool,
}

impl KeyringConfig {
    /// The keys `open`, of which the one named `seals` seals.
    pub fn new(seals: impl Into<String>, open: BTreeMap<String, String>) -> Self {
        Self {
            seals: seals.into(),
            open,
            accept_unsealed: false,
        }
    }
}

impl Keyring {
    /// Reads the keys. `variable` looks up a variable of the environment.
    ///
    /// # Errors
    /// `InvalidInput` naming what is wrong with which key, and never its bytes; as [`Secret::load`] for a file.
    pub fn load(
        config: &KeyringConfig,
        variable: impl Fn(&str) -> Option<String>,
        env: Env,
    ) -> Result<Self> {
        let mut keys = Vec::new();
        for (id, place) in &config.open {
            let key = one(place, &variable).map_err(|error| error.with("key", id))?;
            keys.push((id.as_str().into(), key));
        }
        Self::new(&config.seals, keys, env)
    }
}

fn one(place: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Secret> {
    let wrong = |message| Error::invalid("key_place_invalid", message);
    match place.split_once(':') {
        Some(("file", path)) => Secret::load(Path::new(path)),
        Some(("env", name)) => {
            let text = variable(name)
                .ok_or_else(|| wrong("the variable of a key is not set").with("variable", name))?;
            secret::decode(&text).ok_or_else(|| {
                wrong("expected a key of at least 32 bytes in base64url").with("variable", name)
            })
        }
        // What stands there may be the key itself, so it is not repeated.
        _ => Err(wrong(
            "expected a key's place to be file:PATH or env:NAME, and never the key itself",
        )),
    }
}
