//! The ways of each host.

use std::collections::HashMap;

use super::trie::Trie;

/// Which hosts a way takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostRule {
    pub(crate) name: Name,
    /// Any port, without one.
    pub(crate) port: Option<u16>,
}

/// The name of a host, in small letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    Any,
    Exact(String),
    /// Any host that ends in this, with its dot: `.example.com`.
    Below(String),
    /// Any host that begins with this, with its dot: `example.`.
    Above(String),
}

impl HostRule {
    pub(crate) const ANY: Self = Self {
        name: Name::Any,
        port: None,
    };
}

/// The paths of each host.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    any: Trie,
    exact: HashMap<String, Trie>,
    below: HashMap<String, Trie>,
    above: HashMap<String, Trie>,
}

impl Hosts {
    pub(super) fn trie_of(&mut self, rule: &HostRule) -> &mut Trie {
        match &rule.name {
            Name::Any => &mut self.any,
            Name::Exact(name) => self.exact.entry(name.clone()).or_default(),
            Name::Below(end) => self.below.entry(end.clone()).or_default(),
            Name::Above(begin) => self.above.entry(begin.clone()).or_default(),
        }
    }

    /// Frees it, giving way meanwhile.
    pub(super) fn release(self) {
        self.any.release();
        let named = [self.exact, self.below, self.above];
        let named = named.into_iter().flat_map(HashMap::into_values);
        named.for_each(Trie::release);
    }

    /// Gives the paths of every rule that takes a host.
    pub(super) fn each<'a>(&'a self, host: &str, mut visit: impl FnMut(&'a Trie)) {
        let small;
        let host = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            small = host.to_ascii_lowercase();
            &*small
        } else {
            host
        };
        if let Some(trie) = self.exact.get(host) {
            visit(trie);
        }
        if !self.below.is_empty() || !self.above.is_empty() {
            for (at, _) in host.match_indices('.') {
                let (begin, end) = host.split_at_checked(at).unwrap_or((host, ""));
                // What the star stands for is not empty.
                if !begin.is_empty()
                    && let Some(trie) = self.below.get(end)
                {
                    visit(trie);
                }
                let begin = host.get(..=at).unwrap_or(host);
                if begin.len() < host.len()
                    && let Some(trie) = self.above.get(begin)
                {
                    visit(trie);
                }
            }
        }
        visit(&self.any);
    }
}
