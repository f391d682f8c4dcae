//! The sections of services, each of a form that its service declares.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use trunkline_core::{Error, Result};

use super::Config;

impl Config {
    /// The section of a service, `{}` where there is none.
    ///
    /// # Errors
    /// `InvalidInput` when it does not fit `T`, saying what was expected.
    pub(crate) fn section<T: DeserializeOwned>(&self, service: &str) -> Result<T> {
        let mut section = self.service.get(service).cloned().unwrap_or_default();
        // Where the service runs is the platform's business.
        section.remove("url");
        let read = toml::Value::Table(section).try_into();
        read.map_err(|error: toml::de::Error| {
            Error::invalid("config_invalid", error.message().to_owned())
                .with("section", format!("service.{service}"))
        })
    }

    /// Checks that the section of a service fits `T`; a mistake in the file is told with its line.
    pub(crate) fn check_section<T: DeserializeOwned>(&self, service: &str) -> Result<()> {
        let path = Path {
            names: &["service", service],
            of: PhantomData::<T>,
        };
        if !self.source.overridden
            && let Ok(file) = toml::Deserializer::parse(&self.source.text)
            && let Err(error) = path.deserialize(file)
        {
            return Err(self
                .source
                .wrong(&error)
                .with("section", format!("service.{service}")));
        }
        self.section::<T>(service).map(drop)
    }
}

/// Reads what stands at a path of names as a `T`, and passes over the rest.
struct Path<'a, T> {
    names: &'a [&'a str],
    of: PhantomData<T>,
}

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for Path<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        if self.names.is_empty() {
            T::deserialize(from).map(drop)
        } else {
            from.deserialize_map(self)
        }
    }
}

impl<'de, T: DeserializeOwned> Visitor<'de> for Path<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            match self.names.split_first() {
                Some((first, names)) if *first == name => {
                    map.next_value_seed(Path {
                        names,
                        of: PhantomData::<T>,
                    })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Section {
        limit: u32,
    }

    impl Default for Section {
        fn default() -> Self {
            Self { limit: 7 }
        }
    }

    fn load(text: &str, environment: &[(&str, &str)]) -> Config {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let owned = environment
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load(Some(file.path()), owned).unwrap()
    }

    #[test]
    fn a_section_has_the_form_that_its_service_declares() {
        let config = load("[service.a]\nlimit = 3\nurl = \"http://a\"\n", &[]);
        assert_eq!(config.section::<Section>("a").unwrap().limit, 3);
        assert_eq!(config.section::<Section>("b").unwrap().limit, 7);
        config.check_section::<Section>("b").unwrap();
    }

    #[test]
    fn a_mistake_in_a_section_is_told_with_its_line() {
        let config = load(
            "bus = \"memory:\"\n[service.a]\nlimit = 1\nlimits = 2\n",
            &[],
        );
        let error = config
            .check_section::<Section>("a")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("line 4") && error.contains("expected `limit`"),
            "{error}"
        );
        let config = load("[service.a]\nlimit = -1\n", &[]);
        let error = config
            .check_section::<Section>("a")
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 2") && error.contains("u32"), "{error}");
        let config = load("", &[("TRUNKLINE__SERVICE__A__LIMIT", "many")]);
        let error = config
            .check_section::<Section>("a")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("service.a") && error.contains("u32"),
            "{error}"
        );
    }
}
