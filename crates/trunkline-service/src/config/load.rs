//! Reading a configuration: the file, then the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use trunkline_core::{Error, Result};

use super::Config;

/// Environment variables with this prefix override: `TRUNKLINE__GATEWAY__ADDRESS=127.0.0.1:8080`.
const PREFIX: &str = "TRUNKLINE__";

/// The file that a configuration was read from.
#[derive(Clone, Default)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
    /// The environment variables that were applied to what it says.
    pub(super) variables: Vec<(String, String)>,
    /// Other environment variables, which may say where services are.
    pub(super) places: BTreeMap<String, String>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // There may be secrets in the text and in the values.
        let names: Vec<_> = self.variables.iter().map(|(name, _)| name).collect();
        f.debug_struct("Source")
            .field("name", &self.name)
            .field("variables", &names)
            .finish_non_exhaustive()
    }
}

/// How the names of such variables end.
const PLACES: [&str; 3] = ["_URL", "_HOST", "_PORT"];

impl Source {
    /// The variables that concern a service's section.
    pub(super) fn variables_of(&self, service: &str) -> Vec<&str> {
        let named = service.replace('-', "_");
        let concerns = |name: &&str| {
            let mut parts = name.trim_start_matches(PREFIX).split("__");
            parts
                .next()
                .is_some_and(|part| part.eq_ignore_ascii_case("service"))
                && parts
                    .next()
                    .is_some_and(|part| part.eq_ignore_ascii_case(&named))
        };
        self.variables
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(concerns)
            .collect()
    }

    /// The error of a mistake in the file, which toml tells with its line.
    pub(super) fn wrong(&self, error: &toml::de::Error) -> Error {
        let text = error.to_string();
        Error::invalid(
            "config_invalid",
            format!("{}: {}", self.name, text.trim_end()),
        )
    }
}

impl Config {
    /// Reads a file, or starts from the defaults, and applies environment variables.
    ///
    /// # Shape
    /// `TRUNKLINE__SECTION__KEY`, in capitals; in a service's name `_` stands for `-`.
    ///
    /// # Errors
    /// `NotFound` for a file that can't be read; `InvalidInput` for one that is not as expected, with the line, the
    /// column and what was expected there; or naming the variable, or the file that `service_config` names.
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
        let mut source = Source {
            name,
            text,
            variables: Vec::new(),
            places: BTreeMap::new(),
        };
        let mut config: Self =
            toml::from_str(&source.text).map_err(|error| source.wrong(&error))?;
        let mut table: toml::Table =
            toml::from_str(&source.text).map_err(|error| source.wrong(&error))?;
        let (mut variables, others): (Vec<_>, Vec<_>) = environment
            .into_iter()
            .partition(|(name, _)| name.starts_with(PREFIX));
        let is_place = |name: &str| PLACES.iter().any(|end| name.ends_with(end));
        let places = others.into_iter().filter(|(name, _)| is_place(name));
        source.places = places.collect();
        variables.sort();
        for (name, value) in variables {
            overlay(&mut table, &name, &value)?;
            // Each by itself, so that the message names the one that is wrong.
            config = Self::try_from(table.clone()).map_err(|why| {
                Error::invalid(
                    "config_invalid",
                    format!("the environment variable {name}: {why}"),
                )
            })?;
            source.variables.push((name, value));
        }
        config.call.read_files()?;
        config.source = source;
        Ok(config)
    }

    /// Reads the same file again, with the environment as it was.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_again(&self) -> Result<Self> {
        let Source {
            name, variables, ..
        } = &self.source;
        let path = (!name.is_empty()).then(|| Path::new(name));
        Self::load(path, variables.iter().cloned())
    }

    fn try_from(table: toml::Table) -> std::result::Result<Self, String> {
        toml::Value::Table(table)
            .try_into()
            .map_err(|error: toml::de::Error| error.message().to_owned())
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
        && matches!(first.as_str(), "service" | "external" | "call")
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
            text.contains("line 4") && text.contains("expected one of `address`"),
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
    fn how_services_are_called_is_read_and_overridden_and_read_again() {
        let text = "[call.stock-service]\ntimeout_ms = 700\nattempts_max = 2\n";
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let variable = "TRUNKLINE__CALL__STOCK_SERVICE__TIMEOUT_MS".to_owned();
        let environment = [(variable, "300".to_owned())];
        let config = Config::load(Some(file.path()), environment).unwrap();
        let of = |config: &Config| {
            let policy = config.call.of("stock-service");
            let policy = *policy.operation("GET", "/");
            (policy.timeout.as_millis(), policy.attempts_max)
        };
        assert_eq!(of(&config), (300, 2));
        std::fs::write(file.path(), text.replace('2', "4")).unwrap();
        assert_eq!(of(&config.load_again().unwrap()), (300, 4));
        assert_eq!(of(&Config::default().load_again().unwrap()), (5_000, 3));

        let error = load("[call.a]\ntimeout = 1\n", &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("line 2") && error.contains("`timeout_ms`"),
            "{error}"
        );
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
