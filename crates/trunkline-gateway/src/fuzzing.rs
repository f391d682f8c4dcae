//! What has to hold whatever bytes come in: for fuzzing, and for tests.

mod front;

use std::cmp::Reverse;

use http::{HeaderMap, Method};
use trunkline_core::Env;

pub use self::front::front;
use crate::Config;
use crate::admin::Document;
use crate::compile::host_rule;
use crate::file::{Node, PROBLEMS_MAX};
use crate::path::normalise;
use crate::route::{Asked, Found, HostRule, Name, PathRule, Table, Way, rank};

/// More routes than this are left out.
const ROUTES_MAX: usize = 24;

/// Reads a Kong file of any bytes. A wrong one is told line by line; a right one is written, read again, and says the same.
///
/// # Panics
/// When one of that does not hold.
pub fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let env = Env::seeded(1);
    let config = match Config::check("kong.yml", &text, &env) {
        Ok(config) => config,
        Err(error) => {
            assert_eq!(error.code(), "gateway_config_invalid", "{error}");
            let told = error.message().lines().count();
            assert!(told > 1, "nothing is told: {error}");
            let lines = error
                .message()
                .lines()
                .filter(|line| line.starts_with("kong.yml:"));
            assert!((1..=2 * PROBLEMS_MAX).contains(&lines.count()), "{error}");
            return;
        }
    };
    let Ok(root) = Node::parse(&text) else {
        panic!("what was read can be read");
    };
    let document = Document::of(root.value(), &env);
    let written = match document.render() {
        Ok(rendered) => rendered.text,
        Err(error) => panic!("what was read can be written: {error}"),
    };
    match Config::parse("kong.yml", &written) {
        Ok(again) => assert_eq!(told(&again), told(&config), "{written}"),
        Err(error) => panic!("what was written can't be read: {error}\n{written}"),
    }
}

/// What a configuration says, but for the names of routes that have none.
fn told(config: &Config) -> String {
    let mut config = config.clone();
    let routes = config
        .services
        .iter_mut()
        .flat_map(|service| &mut service.routes);
    for route in routes {
        if route.name == *route.at
            || route.name.contains(".routes[")
            || route.name.starts_with("routes[")
        {
            route.name.clear();
        }
    }
    serde_json::to_string(&config).unwrap_or_default()
}

/// Finds the route of a request among routes, one a line: host, path and methods (`g`, `p`). The first line is the request's. What
/// is found is what trying them one by one finds, and a path that was normalised stays as it is.
///
/// # Panics
/// When one of that does not hold.
pub fn router(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().map(|line| {
        let mut words = line.split(' ').map(str::to_owned);
        let mut word = || words.next().unwrap_or_default();
        (word(), word(), word())
    });
    let Some((host, path, _)) = lines.next() else {
        return;
    };
    let Ok(path) = normalise(&path) else {
        return;
    };
    assert_eq!(normalise(&path).ok().as_ref(), Some(&path), "twice is once");
    let outside = path.split('/').any(|part| matches!(part, "." | ".."));
    assert!(!outside && path.starts_with('/'), "{path}");
    let ways: Vec<_> = lines.take(ROUTES_MAX).collect();
    let table = Table::new(made(&ways));
    let headers = HeaderMap::new();
    let found = table.find(Asked {
        host: &host,
        port: 80,
        path: &path,
        method: &Method::GET,
        headers: &headers,
        sni: None,
    });
    let found = match found {
        Found::Target { target, .. } => Some(*target),
        _ => None,
    };
    assert_eq!(
        found,
        tried(made(&ways), &host, &path, &Method::GET),
        "{text}"
    );
}

fn made(lines: &[(String, String, String)]) -> Vec<Way<usize>> {
    let ways = lines
        .iter()
        .enumerate()
        .filter_map(|(at, (host, path, methods))| {
            let host = match &**host {
                "" | "-" => HostRule::ANY,
                host => host_rule(host)?,
            };
            let path = match path.strip_prefix('~') {
                Some(pattern) => PathRule::regex(pattern).ok()?,
                None => PathRule::Prefix(path.clone()),
            };
            let methods = methods.chars().filter_map(|letter| match letter {
                'g' => Some(Method::GET),
                'p' => Some(Method::POST),
                _ => None,
            });
            Some(Way {
                host,
                path,
                methods: methods.collect(),
                headers: Vec::new(),
                snis: Vec::new(),
                regex_priority: 0,
                target: at,
            })
        });
    ways.collect()
}

/// What the table has to find: the first in its order that fits, tried one by one.
pub(crate) fn tried<T>(
    mut ways: Vec<Way<T>>,
    host: &str,
    path: &str,
    method: &Method,
) -> Option<T> {
    let host = host.to_ascii_lowercase();
    ways.sort_by_cached_key(|way| Reverse(rank(way)));
    let takes = |way: &Way<T>| {
        let host_fits = match &way.host.name {
            Name::Any => true,
            Name::Exact(exact) => *exact == host,
            Name::Below(end) => host.len() > end.len() && host.ends_with(&**end),
            Name::Above(begin) => host.len() > begin.len() && host.starts_with(&**begin),
        };
        let path_fits = match &way.path {
            PathRule::Prefix(prefix) => path.starts_with(&**prefix),
            PathRule::Matches { regex, .. } => regex.is_match(path),
        };
        let port_fits = way.host.port.is_none_or(|port| port == 80);
        let method_fits = way.methods.is_empty() || way.methods.contains(method);
        host_fits && port_fits && path_fits && method_fits
    };
    ways.into_iter().find(takes).map(|way| way.target)
}

#[cfg(test)]
mod tests;
