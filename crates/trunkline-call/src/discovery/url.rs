//! The URLs that say where to look.

use std::time::Duration;

use trunkline_core::{Error, Result};

/// A URL in its parts: `scheme://place/path?name=value&...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    pub(crate) scheme: &'a str,
    /// `host:port`, or a name.
    pub(crate) place: &'a str,
    pub(crate) path: &'a str,
    query: &'a str,
}

impl<'a> Url<'a> {
    pub(crate) fn parse(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        Some(Self {
            scheme,
            place,
            path,
            query,
        })
    }

    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }
}

/// The mistake in a URL. What is found may not be a secret.
#[cold]
pub(crate) fn wrong(expected: impl Into<std::borrow::Cow<'static, str>>, found: &str) -> Error {
    let found: String = found.chars().take(80).collect();
    Error::invalid("discovery_invalid", expected).with("found", found)
}

/// A time in milliseconds, at least `min`.
pub(crate) fn millis(name: &str, value: &str, min: u64) -> Result<Duration> {
    let number = value.parse().ok().filter(|number| *number >= min);
    let number = number.ok_or_else(|| {
        let expected = format!("expected `{name}` to be a number of milliseconds from {min} on");
        wrong(expected, value)
    })?;
    Ok(Duration::from_millis(number))
}

/// Whether a text is a name that can stand in a path or a query as it is.
pub(crate) fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (1..=255).contains(&name.len()) && name.bytes().all(plain) && name != "." && name != ".."
}
