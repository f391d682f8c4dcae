//! What belongs to a name: exact, `*.example.com` or `example.*`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What belongs to names.
///
/// # Guarantees
/// An exact name goes before a star at its beginning, and that before a star at its end. A star stands for one word.
///
/// # Source
/// Kong's documentation of SNIs.
#[derive(Debug)]
pub(crate) struct Names<T> {
    exact: HashMap<String, T>,
    /// By what follows the star and its dot.
    below: HashMap<String, T>,
    /// By what stands before the dot and the star.
    above: HashMap<String, T>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            below: HashMap::new(),
            above: HashMap::new(),
        }
    }
}

impl<T> Names<T> {
    /// # Errors
    /// What was expected.
    pub(crate) fn insert(&mut self, name: &str, what: T) -> Result<(), &'static str> {
        let name = name.to_ascii_lowercase();
        let (names, key) = if let Some(domain) = name.strip_prefix("*.") {
            (&mut self.below, domain)
        } else if let Some(word) = name.strip_suffix(".*") {
            (&mut self.above, word)
        } else {
            (&mut self.exact, &*name)
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if key.is_empty() || !key.bytes().all(plain) {
            return Err("expected a host, `*.` and a domain, or a domain and `.*`");
        }
        match names.entry(key.to_owned()) {
            Entry::Vacant(place) => {
                place.insert(what);
                Ok(())
            }
            Entry::Occupied(_) => Err("expected each name once"),
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<&T> {
        let small;
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            small = name.to_ascii_lowercase();
            &*small
        } else {
            name
        };
        let below = || self.below.get(name.split_once('.')?.1);
        let above = || self.above.get(name.rsplit_once('.')?.0);
        self.exact.get(name).or_else(below).or_else(above)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let mut names = Names::default();
        for name in [
            "shop.example.com",
            "*.example.com",
            "shop.example.*",
            "Big.Org",
        ] {
            names.insert(name, name).unwrap();
        }
        for (asked, found) in [
            ("shop.example.com", Some("shop.example.com")),
            ("SHOP.example.com", Some("shop.example.com")),
            ("till.example.com", Some("*.example.com")),
            ("shop.example.org", Some("shop.example.*")),
            ("a.till.example.com", None),
            ("example.com", None),
            ("big.org", Some("Big.Org")),
            ("", None),
            (".", None),
        ] {
            assert_eq!(names.find(asked).copied(), found, "{asked}");
        }
    }

    #[test]
    fn what_is_no_name_or_a_second_one_is_refused() {
        let mut names = Names::default();
        names.insert("a.b", ()).unwrap();
        for name in ["", "*.", ".*", "*", "a b", "a.*.b", "*.*", "A.B", "a:1"] {
            names.insert(name, ()).unwrap_err();
        }
    }
}
