//! One instance of a service, and what is believed of a list of them.

use std::collections::HashSet;
use std::fmt;

use http::uri::{Authority, Scheme};
use trunkline_core::{Error, Result};

/// More instances of one service are not used: those whose addresses sort first are.
pub const INSTANCES_MAX: usize = 1_024;
/// A longer `host:port` is no address.
const AUTHORITY_BYTES_MAX: usize = 262;
/// The largest weight; a larger one counts as this.
pub const WEIGHT_MAX: u16 = 1_000;

/// One instance of a service. Its address is what tells it from the others.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instance {
    /// `http`.
    pub scheme: Scheme,
    /// `host:port`.
    pub authority: Authority,
    /// How much of the work it gets beside others: 1 unless said otherwise, from 1 to [`WEIGHT_MAX`].
    pub weight: u16,
    /// Whether it says itself that it can work. One that can't gets nothing.
    pub healthy: bool,
}

impl Instance {
    /// An instance at `host` and `port`; an IPv6 address may stand with or without brackets.
    ///
    /// # Errors
    /// `InvalidInput` when that is no address.
    pub fn at(host: &str, port: u16) -> Result<Self> {
        let is_bare_v6 = host.contains(':') && !host.starts_with('[');
        let text = if is_bare_v6 {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        Self::parse(Scheme::HTTP, &text)
    }

    /// An instance at a URL: `http://host:port`.
    ///
    /// # Errors
    /// `InvalidInput` for anything else.
    pub fn from_url(url: &str) -> Result<Self> {
        let uri: http::Uri = url.trim().parse().map_err(|_| bad(url))?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(bad(url));
        };
        if ![Scheme::HTTP, Scheme::HTTPS].contains(&scheme)
            || parts.path_and_query.is_some_and(|path| path != "/")
        {
            return Err(bad(url));
        }
        Self::checked(scheme, authority).ok_or_else(|| bad(url))
    }

    fn parse(scheme: Scheme, authority: &str) -> Result<Self> {
        let parsed = authority.parse().ok();
        parsed
            .and_then(|parsed| Self::checked(scheme, parsed))
            .ok_or_else(|| bad(authority))
    }

    fn checked(scheme: Scheme, authority: Authority) -> Option<Self> {
        let text = authority.as_str();
        let host = authority.host();
        let is_address = !host.is_empty()
            && text.len() <= AUTHORITY_BYTES_MAX
            && !text.contains('@')
            // A port that was written and is none is left out by the parser in silence.
            && match text.get(host.len()..) {
                Some("") => true,
                Some(_) => authority.port_u16().is_some_and(|port| port != 0),
                None => false,
            };
        is_address.then_some(Self {
            scheme,
            authority,
            weight: 1,
            healthy: true,
        })
    }

    /// The same with a weight; what is out of range counts as the nearest that is not.
    #[must_use]
    pub fn with_weight(mut self, weight: u64) -> Self {
        self.weight = u16::try_from(weight)
            .unwrap_or(WEIGHT_MAX)
            .clamp(1, WEIGHT_MAX);
        self
    }

    /// The same, which says whether it can work.
    #[must_use]
    pub fn with_health(mut self, healthy: bool) -> Self {
        self.healthy = healthy;
        self
    }

    /// Its host: a name or an address, an IPv6 one without brackets.
    pub fn host(&self) -> &str {
        self.authority.host().trim_matches(['[', ']'])
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(80)
    }

    /// Where it is: `http://host:port`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url())?;
        if self.weight != 1 {
            write!(f, " (weight {})", self.weight)?;
        }
        if !self.healthy {
            f.write_str(" (unwell)")?;
        }
        Ok(())
    }
}

#[cold]
fn bad(found: &str) -> Error {
    // What a registry says may be as long as it likes.
    let found: String = found.chars().take(80).collect();
    Error::invalid(
        "address_invalid",
        "expected an address such as http://127.0.0.1:3002",
    )
    .with("address", found)
}

/// What is used of a list: those that are well, each address once, sorted, at most [`INSTANCES_MAX`].
pub(crate) fn clean(mut list: Vec<Instance>) -> Vec<Instance> {
    // An instance that came back may still be listed as it was before.
    list.retain(|instance| instance.healthy);
    let mut seen = HashSet::with_capacity(list.len());
    list.retain(|instance| seen.insert((instance.scheme.clone(), instance.authority.clone())));
    list.sort_by(|a, b| a.authority.as_str().cmp(b.authority.as_str()));
    if list.len() > INSTANCES_MAX {
        tracing::warn!(
            listed = list.len(),
            used = INSTANCES_MAX,
            "a service has more instances than are used"
        );
        list.truncate(INSTANCES_MAX);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_and_what_is_none_is_told() {
        for (host, port, said) in [
            ("127.0.0.1", 80, "http://127.0.0.1:80"),
            ("::1", 7001, "http://[::1]:7001"),
            ("[::1]", 7001, "http://[::1]:7001"),
            ("inventory.shop.svc", 7001, "http://inventory.shop.svc:7001"),
        ] {
            assert_eq!(Instance::at(host, port).unwrap().url(), said);
        }
        assert_eq!(Instance::at("::1", 1).unwrap().host(), "::1");
        let long = "x".repeat(300);
        for host in ["", "a b", "user@host", "a/b", "a\r\nb", "a:b:c]", &long] {
            assert!(Instance::at(host, 80).is_err(), "{host}");
        }
        assert!(Instance::at("host", 0).is_err());
        for url in [
            "ftp://x",
            "http://",
            "http://h:99999",
            "http://h:0",
            "http://u:p@h:1",
            "http://h/path",
            "h:80",
            "",
        ] {
            let error = Instance::from_url(url).unwrap_err();
            assert_eq!(error.code(), "address_invalid", "{url}");
        }
        assert_eq!(Instance::from_url(" http://h ").unwrap().port(), 80);
    }

    #[test]
    fn of_a_list_the_well_are_used_once_each_and_not_too_many() {
        let at = |port| Instance::at("h", port).unwrap();
        let list = vec![at(2), at(1).with_health(false), at(1), at(2).with_weight(9)];
        assert_eq!(clean(list), [at(1), at(2)]);
        let many = (1..=2_000).map(at).collect();
        assert_eq!(clean(many).len(), INSTANCES_MAX);
        assert_eq!(at(1).with_weight(0).weight, 1);
        assert_eq!(at(1).with_weight(u64::MAX).weight, WEIGHT_MAX);
    }
}
