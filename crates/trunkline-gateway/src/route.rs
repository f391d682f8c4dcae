//! Finding the route of a request.

mod hosts;
mod trie;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use http::{HeaderMap, HeaderName, Method, StatusCode};
use regex::Regex;
use trunkline_core::ByteString;

use self::hosts::Hosts;
pub(crate) use self::hosts::{HostRule, Name};
use crate::beside::{drop_each, give_way};
use crate::config::Schemes;
use crate::forward::Onward;
use crate::meters::RouteMeters;
use crate::plugin::Plugin;

/// A route, ready to be used.
pub(crate) struct Target {
    pub(crate) name: ByteString,
    pub(crate) service: ByteString,
    pub(crate) onward: Onward,
    /// What its service has before every path; nothing for the most.
    pub(crate) base: Option<Arc<str>>,
    pub(crate) strip_path: bool,
    pub(crate) preserve_host: bool,
    pub(crate) schemes: Schemes,
    /// What a request without TLS is answered where it has to have it.
    pub(crate) redirect: StatusCode,
    /// In the order in which they run.
    pub(crate) plugins: Vec<Slot>,
    /// Whether a preflight is answered here even where the route does not take OPTIONS.
    pub(crate) answers_preflights: bool,
    pub(crate) meters: OnceLock<RouteMeters>,
}

/// One kind of plugin of a route: for all, and for some consumers another or none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot {
    pub(crate) all: Option<Arc<dyn Plugin>>,
    pub(crate) of_consumers: Arc<HashMap<ByteString, Option<Arc<dyn Plugin>>>>,
}

impl Slot {
    /// The plugin for a request of this consumer, or of nobody that is known.
    pub(crate) fn plugin(&self, consumer: Option<&str>) -> Option<&Arc<dyn Plugin>> {
        let own = consumer.and_then(|consumer| self.of_consumers.get(consumer));
        own.unwrap_or(&self.all).as_ref()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_none() && self.of_consumers.is_empty()
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({} -> {})", self.name, self.service)
    }
}

/// Which paths a way takes.
#[derive(Debug, Clone)]
pub(crate) enum PathRule {
    /// Those that begin with this; all, if it is empty.
    Prefix(String),
    /// Those that this matches from their beginning. What it begins with whatever it matches is the literal.
    Matches { regex: Regex, literal: String },
}

/// A header that a request has to have.
#[derive(Debug, Clone)]
pub(crate) struct HeaderRule {
    pub(crate) name: HeaderName,
    /// One of these, in small letters.
    pub(crate) values: Vec<String>,
    /// Or one that one of these matches, whatever its letters.
    pub(crate) patterns: Vec<Regex>,
}

/// One of the ways to a route: one host, one path, its methods, headers and names of TLS.
#[derive(Debug)]
pub(crate) struct Way<T> {
    pub(crate) host: HostRule,
    pub(crate) path: PathRule,
    /// Every method, if there is none here.
    pub(crate) methods: Vec<Method>,
    pub(crate) headers: Vec<HeaderRule>,
    /// Every name, if there is none here. A request without TLS has any.
    pub(crate) snis: Vec<String>,
    pub(crate) regex_priority: i32,
    pub(crate) target: T,
}

/// What of a request routes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Without its port.
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    /// Normalised.
    pub(crate) path: &'a str,
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    /// The name that the client asked for in its TLS handshake, where there was one.
    pub(crate) sni: Option<&'a str>,
}

/// All ways, in the order in which one goes before another.
///
/// # Guarantees
/// A way that asks for more of host, headers, path, method and TLS name comes first; then one of an exact host; then the one
/// that asks for more headers; then an expression, by its priority; then the longer prefix; then the one that was
/// declared first. How long it takes depends on the request's host and path, and not on how many ways there are.
///
/// # Source
/// The order of Kong 3's router (`traditional_compatible`), in its documentation of routing priorities.
#[derive(Debug)]
pub(crate) struct Table<T> {
    ways: Vec<Way<T>>,
    hosts: Hosts,
}

/// What was found for a request.
#[derive(Debug)]
pub(crate) enum Found<'a, T> {
    /// The way's target, how much of the path it matched, and by which expression.
    Target {
        target: &'a T,
        matched: usize,
        regex: Option<&'a Regex>,
    },
    /// Everything but the method is known, with these methods.
    WrongMethod(Vec<Method>),
    Nothing,
}

impl<T> Table<T> {
    pub(crate) fn new(mut ways: Vec<Way<T>>) -> Self {
        // Stable: of two that are alike the first stays the first.
        ways.sort_by_cached_key(|way| Reverse(rank(way)));
        let mut hosts = Hosts::default();
        for (index, way) in ways.iter().enumerate() {
            let literal = match &way.path {
                PathRule::Prefix(prefix) => prefix,
                PathRule::Matches { literal, .. } => literal,
            };
            hosts.trie_of(&way.host).insert(literal, index);
            give_way();
        }
        Self { ways, hosts }
    }

    /// Frees it, giving way meanwhile.
    pub(crate) fn release(self) {
        drop_each(self.ways);
        self.hosts.release();
    }

    pub(crate) fn find(&self, asked: Asked<'_>) -> Found<'_, T> {
        let mut best: Option<(usize, usize)> = None;
        let mut others: Vec<Method> = Vec::new();
        self.hosts.each(asked.host, |trie| {
            trie.each(asked.path, |indexes| {
                for &index in indexes {
                    // In a list the first that fits is its best.
                    if best.is_some_and(|(first, _)| first < index) {
                        break;
                    }
                    let Some(way) = self.ways.get(index) else {
                        continue;
                    };
                    let Some(matched) = way.fits(asked) else {
                        continue;
                    };
                    if way.methods.is_empty() || way.methods.contains(asked.method) {
                        best = Some((index, matched));
                        break;
                    }
                    let new = way.methods.iter().filter(|other| !others.contains(other));
                    others.extend(new.cloned().collect::<Vec<_>>());
                }
            });
        });
        let found = best.and_then(|(index, matched)| Some((self.ways.get(index)?, matched)));
        match found {
            Some((way, matched)) => Found::Target {
                target: &way.target,
                matched,
                regex: way.path.expression(),
            },
            None if others.is_empty() => Found::Nothing,
            None => Found::WrongMethod(others),
        }
    }
}

/// How much a way asks for: the more, the earlier it is tried.
pub(crate) fn rank<T>(way: &Way<T>) -> (usize, bool, usize, bool, i32, usize) {
    let (has_path, is_regex, length) = match &way.path {
        PathRule::Prefix(prefix) => (!prefix.is_empty(), false, prefix.len()),
        PathRule::Matches { .. } => (true, true, 0),
    };
    let has_host = way.host.name != Name::Any;
    let asks = [
        has_host,
        !way.headers.is_empty(),
        has_path,
        !way.methods.is_empty(),
        !way.snis.is_empty(),
    ];
    let asks = asks.into_iter().filter(|asks| *asks).count();
    let exact = matches!(way.host.name, Name::Exact(_));
    let priority = if is_regex { way.regex_priority } else { 0 };
    (asks, exact, way.headers.len(), is_regex, priority, length)
}

impl<T> Way<T> {
    /// How much of the path it matches, if the request is one of its own but for the method. Its host and the literal
    /// beginning of its path are known to fit.
    fn fits(&self, asked: Asked<'_>) -> Option<usize> {
        if self.host.port.is_some_and(|port| port != asked.port) {
            return None;
        }
        let matched = match &self.path {
            PathRule::Prefix(prefix) => prefix.len(),
            PathRule::Matches { regex, .. } => {
                let found = regex.find(asked.path).filter(|found| found.start() == 0)?;
                found.end()
            }
        };
        let knows_sni = || {
            let sni = asked.sni?;
            self.snis.iter().find(|own| own.eq_ignore_ascii_case(sni))
        };
        if !self.snis.is_empty() && asked.sni.is_some() && knows_sni().is_none() {
            return None;
        }
        let has = |rule: &HeaderRule| rule.fits(asked.headers);
        self.headers.iter().all(has).then_some(matched)
    }
}

impl HeaderRule {
    fn fits(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(&self.name).iter();
        given.any(|value| {
            let value = value.to_str().unwrap_or_default().to_ascii_lowercase();
            let mut patterns = self.patterns.iter();
            self.values.contains(&value) || patterns.any(|pattern| pattern.is_match(&value))
        })
    }
}

impl PathRule {
    fn expression(&self) -> Option<&Regex> {
        match self {
            Self::Prefix(_) => None,
            Self::Matches { regex, .. } => Some(regex),
        }
    }

    /// The rule for an expression.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn regex(pattern: &str) -> Result<Self, String> {
        /// What one expression may take when it is compiled: a path's are some kilobytes.
        const BYTES_MAX: usize = 256 * 1024;
        let anchored = format!("^(?:{pattern})");
        let regex = regex::RegexBuilder::new(&anchored)
            .size_limit(BYTES_MAX)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
                error => why(&error),
            })?;
        let literal = literal_of(pattern);
        Ok(Self::Matches { regex, literal })
    }
}

/// What is wrong with an expression: the last of the error's lines says it, those before draw the expression.
pub(crate) fn why(error: &regex::Error) -> String {
    let text = error.to_string();
    let why = text.lines().last().unwrap_or_default();
    why.trim_start_matches("error: ").to_owned()
}

/// What every path begins with that an expression matches, as far as that is plain to see.
fn literal_of(pattern: &str) -> String {
    let mut literal = String::new();
    let mut letters = pattern.chars().peekable();
    // With an alternative at the top nothing is certain; what is in brackets does not come this far.
    let mut depth = 0_usize;
    let alternatives = pattern.chars().any(|letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == '|' && depth == 0
    });
    if alternatives {
        return literal;
    }
    while let Some(letter) = letters.next() {
        let plain = match letter {
            '\\' => match letters.next() {
                Some(escaped) if escaped.is_ascii_punctuation() => escaped,
                _ => break,
            },
            '.' | '(' | '[' | '{' | '?' | '*' | '+' | '$' | '^' | ')' | ']' | '}' => break,
            plain => plain,
        };
        // It may be there any number of times, or not at all.
        if matches!(letters.peek(), Some('?' | '*' | '+' | '{')) {
            break;
        }
        literal.push(plain);
    }
    literal
}

#[cfg(test)]
mod tests;
