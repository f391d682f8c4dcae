//! Finding the route of a request.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Method;
use trunkline_call::Channel;
use trunkline_core::ByteString;

use crate::meters::RouteMeters;
use crate::plugin::Plugin;

/// A route, ready to be used.
pub(crate) struct Target {
    pub(crate) name: ByteString,
    pub(crate) service: ByteString,
    pub(crate) channel: Channel,
    pub(crate) strip_path: bool,
    pub(crate) timeout: Option<Duration>,
    /// In the order in which they run.
    pub(crate) plugins: Vec<Arc<dyn Plugin>>,
    /// Whether a preflight is answered here even where the route does not take OPTIONS.
    pub(crate) answers_preflights: bool,
    pub(crate) meters: OnceLock<RouteMeters>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({} -> {})", self.name, self.service)
    }
}

/// Which hosts a route takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostRule {
    Any,
    Exact(String),
    /// Any host that ends in this, with its dot: `.example.com`.
    Below(String),
}

impl HostRule {
    fn takes(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => host.eq_ignore_ascii_case(exact),
            Self::Below(suffix) => {
                let start = host.len().checked_sub(suffix.len());
                let end = start.and_then(|start| host.get(start..));
                start != Some(0) && end.is_some_and(|end| end.eq_ignore_ascii_case(suffix))
            }
        }
    }
}

/// One of the ways to a route: one host, one prefix, its methods.
#[derive(Debug)]
pub(crate) struct Way<T> {
    pub(crate) host: HostRule,
    pub(crate) prefix: String,
    /// Every method, if there is none here.
    pub(crate) methods: Vec<Method>,
    pub(crate) target: T,
}

/// All ways, in the order in which they are tried: Kong's priority.
///
/// # Guarantees
/// A way that asks for more of host, method and path comes first; then an exact host before a wildcard; then the
/// longer prefix; then the one that was declared first.
#[derive(Debug)]
pub(crate) struct Table<T>(Vec<Way<T>>);

/// What was found for a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a, T> {
    Target {
        target: &'a T,
        prefix: &'a str,
    },
    /// Host and path are known, with these methods.
    WrongMethod(Vec<Method>),
    Nothing,
}

impl<T> Table<T> {
    pub(crate) fn new(mut ways: Vec<Way<T>>) -> Self {
        ways.sort_by_key(|way| {
            let asks = usize::from(way.host != HostRule::Any)
                + usize::from(!way.methods.is_empty())
                + usize::from(!way.prefix.is_empty());
            let exact = usize::from(matches!(way.host, HostRule::Exact(_)));
            std::cmp::Reverse((asks, exact, way.prefix.len()))
        });
        Self(ways)
    }

    pub(crate) fn find(&self, host: &str, path: &str, method: &Method) -> Found<'_, T> {
        let mut others: Vec<Method> = Vec::new();
        for way in &self.0 {
            if !path.starts_with(&way.prefix) || !way.host.takes(host) {
                continue;
            }
            if way.methods.is_empty() || way.methods.contains(method) {
                return Found::Target {
                    target: &way.target,
                    prefix: &way.prefix,
                };
            }
            for other in &way.methods {
                if !others.contains(other) {
                    others.push(other.clone());
                }
            }
        }
        if others.is_empty() {
            Found::Nothing
        } else {
            Found::WrongMethod(others)
        }
    }
}

#[cfg(test)]
mod tests;
