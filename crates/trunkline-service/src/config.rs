//! The configuration: one file, every value overridable by an environment variable.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use trunkline_core::{Error, Result};
use trunkline_telemetry::Format;

/// How a platform runs. A value that is not given has the default named with it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The folder for everything that is kept: `data`.
    pub data: PathBuf,
    /// The engine of the bus, by its URL: `log:{data}/bus`. `memory:` keeps nothing.
    pub bus: String,
    /// The store of each service, by its URL: `sqlite:{data}/{service}.db`, or
    /// `postgres://user@host/database?schema={service}`.
    pub store: String,
    /// The gateway.
    pub gateway: Gateway,
    /// The admin address.
    pub admin: Admin,
    /// Log lines.
    pub log: Log,
    /// Traces.
    pub telemetry: Traces,
    /// How long each step of a shutdown may take, in seconds: 10.
    pub shutdown_seconds: u64,
    /// How long the trail keeps events, in days: 30.
    pub trail_days: u64,
    /// How many events the trail keeps: 1,000,000.
    pub trail_events_max: u64,
    /// A section for each service, by its name; `url` in it says that it runs elsewhere.
    pub service: BTreeMap<String, toml::Table>,
    /// Where services outside the platform are, by name.
    pub external: BTreeMap<String, ExternalAddress>,
}

/// The gateway.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Gateway {
    /// Where it listens: `127.0.0.1:8000`.
    pub address: SocketAddr,
}

/// The admin address.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Admin {
    /// Where it listens: `127.0.0.1:9900`.
    pub address: SocketAddr,
    /// The token that it asks for; needed when it listens beyond loopback.
    pub token: Option<String>,
}

/// Log lines.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Log {
    /// `human` or `json`.
    pub format: Format,
    /// Which lines: `warn`.
    pub filter: String,
}

/// Traces.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Traces {
    /// The collector that takes spans by OTLP over HTTP, such as `http://127.0.0.1:4318`; none by default.
    pub otlp: Option<String>,
}

/// A service outside the platform.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ExternalAddress {
    /// Where it is: `http://host:port`.
    pub url: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("data"),
            bus: "log:{data}/bus".to_owned(),
            store: "sqlite:{data}/{service}.db".to_owned(),
            gateway: Gateway::default(),
            admin: Admin::default(),
            log: Log::default(),
            telemetry: Traces::default(),
            shutdown_seconds: 10,
            trail_days: 30,
            trail_events_max: 1_000_000,
            service: BTreeMap::new(),
            external: BTreeMap::new(),
        }
    }
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8000)),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 9900)),
            token: None,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: Format::Human,
            filter: "warn".to_owned(),
        }
    }
}

/// Environment variables with this prefix override: `TRUNKLINE__GATEWAY__ADDRESS=127.0.0.1:8080`.
const PREFIX: &str = "TRUNKLINE__";

impl Config {
    /// Reads a file, or starts from the defaults, and applies environment variables.
    ///
    /// # Shape
    /// `TRUNKLINE__SECTION__KEY`, in capitals; in a service's name `_` stands for `-`.
    ///
    /// # Errors
    /// `NotFound` for a file that can't be read; `InvalidInput` for one that is not as expected, with the line, the
    /// column and what was expected there; or naming the variable.
    pub fn load(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let text = match path {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path).map_err(|error| {
                Error::not_found("config_unreadable", "the configuration file can't be read")
                    .with("file", path.display())
                    .with_source(error)
            })?,
        };
        let name = path
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        let bad = |error: toml::de::Error| {
            Error::invalid(
                "config_invalid",
                format!("{name}: {}", error.to_string().trim_end()),
            )
        };
        let plain: Self = toml::from_str(&text).map_err(bad)?;
        let mut table: toml::Table = toml::from_str(&text).map_err(bad)?;
        let mut overridden = false;
        let mut variables: Vec<_> = environment
            .into_iter()
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        variables.sort();
        for (name, value) in variables {
            overlay(&mut table, &name, &value)?;
            // Each by itself, so that the message names the one that is wrong.
            Self::try_from(table.clone()).map_err(|why| {
                Error::invalid(
                    "config_invalid",
                    format!("the environment variable {name}: {why}"),
                )
            })?;
            overridden = true;
        }
        if !overridden {
            return Ok(plain);
        }
        Self::try_from(table).map_err(|why| Error::invalid("config_invalid", why))
    }

    fn try_from(table: toml::Table) -> std::result::Result<Self, String> {
        toml::Value::Table(table)
            .try_into()
            .map_err(|error: toml::de::Error| error.message().to_owned())
    }

    /// A URL with `{data}` and `{service}` filled in.
    pub(crate) fn url(&self, template: &str, service: &str) -> String {
        template
            .replace("{data}", &self.data.display().to_string())
            .replace("{service}", service)
    }
}

fn overlay(table: &mut toml::Table, name: &str, value: &str) -> Result<()> {
    let bad = |text: &str| {
        Error::invalid(
            "config_invalid",
            format!("the environment variable {name}: {text}"),
        )
    };
    let mut path: Vec<String> = name
        .strip_prefix(PREFIX)
        .unwrap_or_default()
        .split("__")
        .map(str::to_ascii_lowercase)
        .collect();
    if let [first, service, ..] = path.as_mut_slice()
        && (first == "service" || first == "external")
    {
        *service = service.replace('_', "-");
    }
    let Some(key) = path.pop().filter(|key| !key.is_empty()) else {
        return Err(bad("expected TRUNKLINE__SECTION__KEY"));
    };
    let mut at = table;
    for part in path {
        let next = at
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = next
            .as_table_mut()
            .ok_or_else(|| bad("expected TRUNKLINE__SECTION__KEY"))?;
    }
    // A number or a truth value where it reads as one, a text otherwise.
    let read = toml::from_str::<toml::Table>(&format!("value = {value}"));
    let read = read.ok().and_then(|mut table| table.remove("value"));
    let value = match read {
        Some(value) if value.is_integer() || value.is_bool() || value.is_float() => value,
        _ => toml::Value::String(value.to_owned()),
    };
    at.insert(key, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let environment = environment
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load(Some(file.path()), environment)
    }

    #[test]
    fn a_file_and_the_environment_make_a_configuration() {
        let text = "bus = \"memory:\"\n[service.order-service]\nlimit = 3\n";
        let config = load(
            text,
            &[
                ("TRUNKLINE__GATEWAY__ADDRESS", "127.0.0.1:1"),
                ("TRUNKLINE__SERVICE__ORDER_SERVICE__LIMIT", "4"),
                ("HOME", "/"),
            ],
        )
        .unwrap();
        assert_eq!(config.bus, "memory:");
        assert_eq!(config.gateway.address.port(), 1);
        assert_eq!(
            config.service["order-service"]["limit"].as_integer(),
            Some(4)
        );
        assert_eq!(config.url(&config.store, "x"), "sqlite:data/x.db");
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_what_was_expected() {
        let error = load("bus = \"memory:\"\n\n[gateway]\nadress = 1\n", &[]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("line 4") && text.contains("expected `address`"),
            "{text}"
        );
        let error = load("shutdown_seconds = \"long\"\n", &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("line 1") && error.contains("expected u64"),
            "{error}"
        );
        let error = load("bus = \n", &[]).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }

    #[test]
    fn a_wrong_variable_is_named() {
        let error = load("", &[("TRUNKLINE__ADMIN__ADDRESS", "here")])
            .unwrap_err()
            .to_string();
        assert!(error.contains("TRUNKLINE__ADMIN__ADDRESS"), "{error}");
        let error = load("", &[("TRUNKLINE__NONSENSE", "1")])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("TRUNKLINE__NONSENSE") && error.contains("expected one of"),
            "{error}"
        );
        assert!(Config::load(Some(Path::new("/nowhere/x.toml")), []).is_err());
    }
}
