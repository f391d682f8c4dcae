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
        for key in super::place::KEYS {
            section.remove(key);
        }
        let read = toml::Value::Table(section).try_into();
        read.map_err(|error: toml::de::Error| {
            Error::invalid("config_invalid", error.message().to_owned())
                .with("section", format!("service.{service}"))
        })
    }

    /// Checks that the section of a service fits `T`. A mistake in the file is told with its line, whatever the
    /// environment says besides; one of the environment with the variables that it may be of.
    pub(crate) fn check_section<T: DeserializeOwned>(&self, service: &str) -> Result<()> {
        let path = Path {
            names: &["service", service],
            of: PhantomData::<T>,
        };
        let Err(error) = self.section::<T>(service) else {
            return Ok(());
        };
        if let Ok(file) = toml::Deserializer::parse(&self.source.text)
            && let Err(in_file) = path.deserialize(file)
            && in_file.message() == error.message()
        {
            let section = format!("service.{service}");
            return Err(self.source.wrong(&in_file).with("section", section));
        }
        let variables = self.source.variables_of(service);
        Err(if variables.is_empty() {
            error
        } else {
            error.with("environment", variables.join(", "))
        })
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
        assert!(error.contains("TRUNKLINE__SERVICE__A__LIMIT"), "{error}");
    }

    #[test]
    fn a_variable_does_not_take_the_line_of_a_mistake_in_the_file() {
        let text = "[service.a]\nlimit = 1\nlimits = 2\n[service.b-c]\nlimit = -1\n";
        let elsewhere = ("TRUNKLINE__SHUTDOWN_SECONDS", "3");
        let beside = ("TRUNKLINE__SERVICE__A__LIMIT", "4");
        let config = load(text, &[elsewhere, beside]);
        let error = config.check_section::<Section>("a").unwrap_err();
        assert!(error.to_string().contains("line 3"), "{error}");
        let error = config.check_section::<Section>("b-c").unwrap_err();
        assert!(error.to_string().contains("line 5"), "{error}");

        // What the environment puts right is right; what it puts wrong is its own mistake.
        let config = load(text, &[("TRUNKLINE__SERVICE__B_C__LIMIT", "5")]);
        config.check_section::<Section>("b-c").unwrap();
        let config = load(text, &[("TRUNKLINE__SERVICE__B_C__LIMIT", "many")]);
        let error = config.check_section::<Section>("b-c").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("TRUNKLINE__SERVICE__B_C__LIMIT"), "{text}");
        assert!(!text.contains("line"), "{text}");
    }
}
