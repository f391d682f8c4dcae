//! Kong's declarative file, format 3.0 and those before it, as YAML or JSON; and the same without a version.
//!
//! Everything in it is read, with every mistake told at once, each with its line. A name that is not known is a
//! mistake, and so is one that is known and not supported; neither is read over.

mod certificates;
mod consumers;
mod node;
mod read;
mod services;
mod upstreams;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use trunkline_call::Network;
use trunkline_core::{Env, Result};
use trunkline_security::{Secret, Verifier};
use trunkline_telemetry::Telemetry;

pub(crate) use self::node::Node;
use self::node::What;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::read::PROBLEMS_MAX;
pub(crate) use self::read::Problems;
use self::read::{Fields, text_of};
use crate::beside::drop_each;
use crate::compile::{Ports, compile};
use crate::config::{Config, Consumer, PluginConfig, Route, Service, Target};
use crate::means::Means;
use crate::workers::Workers;

/// Versions of the format, and whether a path that is an expression says so with `~` there.
const VERSIONS: [(&str, bool); 3] = [("1.1", false), ("2.1", false), ("3.0", true)];

/// The file that a configuration was read from, to tell where something stands in it.
#[derive(Debug, PartialEq)]
pub(crate) struct Source {
    name: String,
    root: Node,
}

impl Source {
    /// Where a path is in the file.
    pub(crate) fn place_of(&self, path: &str) -> node::Place {
        self.root.find(path)
    }

    /// What the file says, without places.
    pub(crate) fn value(&self) -> Value {
        self.root.value()
    }
}

impl Config {
    /// Frees it, giving way meanwhile.
    pub(crate) fn release(self) {
        if let Some(source) = self.source.and_then(Arc::into_inner) {
            source.root.release();
        }
        for service in self.services {
            drop_each(service.routes);
        }
        drop_each(self.consumers);
    }
}

impl Config {
    /// Reads a file of this name, which messages begin with.
    ///
    /// # Errors
    /// `InvalidInput` (`gateway_config_invalid`) with every mistake in the file's form, a line each: the place, the path,
    /// what was expected there and what was found.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let (config, problems) = read(name, text);
        match problems.is_empty() {
            true => Ok(config),
            false => Err(problems.refusal(config.source.as_deref())),
        }
    }

    /// Reads a file as a gateway would that takes it, and says what it has.
    ///
    /// # Errors
    /// As [`Config::parse`], with what [`crate::Gateway::new`] would say besides.
    pub fn check(name: &str, text: &str, env: &Env) -> Result<Self> {
        let (config, mut problems) = read(name, text);
        let telemetry = Telemetry::disabled(env.clone());
        let network = Network::new(telemetry, env.clone());
        let ports = Ports {
            channel_of: Box::new(move |service| network.channel("gateway", service)),
            // Which keys there are is not the file's to say, nor what services declare.
            means: Means::from(Verifier::hs256(&Secret::generate(env), env.clone()))
                .documents(|_| Some(serde_json::json!({ "openapi": "3.1.0", "paths": {} }))),
            workers: Workers::default(),
            env: env.clone(),
            has_services: true,
        };
        if let Err(others) = compile(&config, &ports, None) {
            problems.append(others);
        }
        match problems.is_empty() {
            true => Ok(config),
            false => Err(problems.refusal(config.source.as_deref())),
        }
    }
}

/// A document of another kind, as YAML or JSON.
///
/// # Errors
/// Where it is broken, and how.
pub(crate) fn parse_value(text: &str) -> std::result::Result<serde_json::Value, String> {
    let root = Node::parse(text);
    let root = root.map_err(|(place, why)| format!("{place}: {why}"))?;
    Ok(root.value())
}

/// What can be read of a file, and every mistake in its form.
pub(crate) fn read(name: &str, text: &str) -> (Config, Problems) {
    let mut problems = Problems::default();
    let (root, mut config) = match Node::parse(text) {
        Ok(root) => {
            let config = document(&root, &mut problems).unwrap_or_default();
            (root, config)
        }
        Err((place, text)) => {
            problems.add(place, "", text);
            (Node::nothing(), Config::default())
        }
    };
    let name = name.to_owned();
    config.source = Some(Arc::new(Source { name, root }));
    (config, problems)
}

/// What an entity names another by: its name, or fields with its `name`, `username` or `id`.
fn reference(
    fields: &mut Fields<'_>,
    name: &'static str,
    problems: &mut Problems,
) -> Option<String> {
    let node = fields.take(name)?;
    if let Some(text) = text_of(node) {
        return Some(text);
    }
    if let What::Fields(inside) = &node.what
        && let [field] = &**inside
        && matches!(&*field.name, "name" | "username" | "id")
        && let Some(text) = text_of(&field.node)
    {
        return Some(text);
    }
    let expected = format!("expected the name of a {name}, found {}", node.kind());
    fields.wrong(node, name, expected, problems);
    None
}

/// Words to find something by, and what Kong keeps about it that says nothing here.
fn tags(fields: &mut Fields<'_>, problems: &mut Problems) -> Vec<String> {
    fields.ignored(&["created_at", "updated_at"]);
    fields.texts("tags", problems)
}

/// Something that stands on its own and belongs to something else, named by a field of it.
struct Owned<T> {
    owner: String,
    path: String,
    place: node::Place,
    what: T,
}

/// A list of such things; `owner` is the field by which each names what it belongs to.
fn owned<T>(
    fields: &mut Fields<'_>,
    (list, owner): (&'static str, &'static str),
    problems: &mut Problems,
    read: impl Fn(Fields<'_>, &mut Problems) -> Option<T>,
) -> Vec<Owned<T>> {
    fields.list(list, problems, |node, path, problems| {
        let mut fields = Fields::of(node, path, problems)?;
        let called = reference(&mut fields, owner, problems);
        let called = fields.needs(owner, called, problems);
        let (path, place) = (format!("{}.{owner}", fields.path), fields.place);
        let what = read(fields, problems)?;
        Some(Owned {
            owner: called?,
            path,
            place,
            what,
        })
    })
}

fn document(root: &Node, problems: &mut Problems) -> Option<Config> {
    if root.what == What::Null {
        return None;
    }
    let mut fields = Fields::of(root, String::new(), problems)?;
    let marks = version(&mut fields, problems);
    let mut names = Names::default();
    let mut of_consumers = Vec::new();
    let mut config = Config {
        services: fields.list("services", problems, |node, path, problems| {
            services::service(node, path, &mut names, problems)
        }),
        upstreams: fields.list("upstreams", problems, upstreams::upstream),
        certificates: fields.list("certificates", problems, certificates::certificate),
        ca_certificates: fields.list("ca_certificates", problems, certificates::authority),
        consumers: fields.list("consumers", problems, |node, path, problems| {
            consumers::consumer(node, path, (&mut names, &mut of_consumers), problems)
        }),
        ..Config::default()
    };
    config.plugins = of_consumers;
    let routes = fields.list("routes", problems, |node, path, problems| {
        services::route_of(node, path, &mut names, problems)
    });
    let snis = certificates::snis(&mut fields, problems);
    let targets = upstreams::targets(&mut fields, problems);
    let credentials = consumers::credentials(&mut fields, problems);
    let plugins = fields.list("plugins", problems, services::plugin_of);
    unsupported(&mut fields, problems);
    fields.end(problems);
    give(&mut config, &names, routes, problems);
    if !marks {
        mark_expressions(&mut config);
    }
    give_targets(&mut config, targets, problems);
    certificates::give(&mut config.certificates, snis, problems);
    consumers::give(&mut config.consumers, &names, credentials, problems);
    give_plugins(&mut config, &names, plugins, problems);
    Some(config)
}

/// Whether paths that are expressions say so; they do in a file that names no version.
fn version(fields: &mut Fields<'_>, problems: &mut Problems) -> bool {
    let node = fields.take("_format_version");
    let number = node.filter(|node| matches!(node.what, What::Integer(_) | What::Decimal(_)));
    let marks = match number {
        Some(node) => {
            let expected = "expected a text: write the version in quotes, such as \"3.0\"";
            fields.wrong(node, "_format_version", expected, problems);
            None
        }
        None => fields.one_of("_format_version", &VERSIONS, problems),
    };
    if let Some(node) = fields.take("_transform")
        && node.what != What::Flag(true)
    {
        let expected = "expected `true`: keys that are hashed already are not supported";
        fields.wrong(node, "_transform", expected, problems);
    }
    fields.ignored(&["_comment", "_ignore", "_workspace"]);
    if let Some(mut info) = fields.inside("_info", problems) {
        info.ignored(&["select_tags"]);
        let defaults = info.take("defaults");
        if let Some(defaults) = defaults.filter(|node| node.what != What::Fields(Vec::new())) {
            let why = "`defaults` is not supported: write the values where they hold";
            info.wrong(defaults, "defaults", why, problems);
        }
        info.end(problems);
    }
    marks.unwrap_or(true)
}

/// Marks paths as expressions where the format did not: those that have anything a plain path has not.
///
/// # Source
/// What Kong 3 does with a file of format 1.1 or 2.1.
fn mark_expressions(config: &mut Config) {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/%".contains(&byte);
    let routes = config
        .services
        .iter_mut()
        .flat_map(|service| &mut service.routes);
    for path in routes.flat_map(|route| &mut route.paths) {
        if path.starts_with('/') && !path.bytes().all(is_plain) {
            path.insert(0, '~');
        }
    }
}

fn unsupported(fields: &mut Fields<'_>, problems: &mut Problems) {
    let enterprise = "it is of Kong's commercial edition";
    let none = "there is no such credential here; key-auth and jwt are";
    fields.unsupported(
        &[
            ("consumer_groups", enterprise),
            ("vaults", "secrets come from the environment"),
            ("basicauth_credentials", none),
            ("hmacauth_credentials", none),
            ("oauth2_credentials", none),
            (
                "keys",
                "tokens are verified by a consumer's `jwt_secrets` or by a JWKS",
            ),
            (
                "key_sets",
                "tokens are verified by a consumer's `jwt_secrets` or by a JWKS",
            ),
            (
                "filter_chains",
                "there is no WebAssembly here; a plugin is written in Rust",
            ),
            ("_konnect", enterprise),
        ],
        problems,
    );
}

/// Under which names and ids services, routes and consumers are known, by their place in the lists.
#[derive(Debug, Default)]
struct Names {
    services: HashMap<String, usize>,
    consumers: HashMap<String, usize>,
    /// Ids of routes, by the names that they are known by here.
    routes: HashMap<String, String>,
    /// How many services and consumers were read.
    counts: (usize, usize),
}

fn unknown<T>(owned: &Owned<T>, kind: &str, problems: &mut Problems) {
    let expected = format!("expected a {kind} of the file, found `{}`", owned.owner);
    problems.add(owned.place, &owned.path, expected);
}

fn give(config: &mut Config, names: &Names, routes: Vec<Owned<Route>>, problems: &mut Problems) {
    for route in routes {
        let service = names.services.get(&route.owner).copied();
        match service.and_then(|index| config.services.get_mut(index)) {
            Some(service) => service.routes.push(route.what),
            None => unknown(&route, "service", problems),
        }
    }
}

fn give_targets(config: &mut Config, targets: Vec<Owned<Target>>, problems: &mut Problems) {
    for target in targets {
        let mut upstreams = config.upstreams.iter_mut();
        match upstreams.find(|upstream| upstream.name == target.owner) {
            Some(upstream) => upstream.targets.push(target.what),
            None => unknown(&target, "upstream", problems),
        }
    }
}

/// Puts plugins that stand on their own where their fields say: for a route, a service, or all.
fn give_plugins(
    config: &mut Config,
    names: &Names,
    plugins: Vec<services::FreePlugin>,
    problems: &mut Problems,
) {
    for services::FreePlugin {
        route,
        service,
        plugin,
    } in plugins
    {
        let place: Option<&mut Vec<PluginConfig>> = match (&route, &service) {
            (None, None) => Some(&mut config.plugins),
            (Some(owned), service) => {
                let name = names.routes.get(&owned.owner);
                let found = name.and_then(|name| route_mut(&mut config.services, name));
                if found.is_none() {
                    unknown(owned, "route", problems);
                }
                if let (Some((index, _)), Some(service)) = (&found, service)
                    && names.services.get(&service.owner) != Some(index)
                {
                    let expected = format!(
                        "expected the service of the route `{}`, found `{}`",
                        owned.owner, service.owner
                    );
                    problems.add(service.place, &service.path, expected);
                }
                found.map(|(_, route)| &mut route.plugins)
            }
            (None, Some(owned)) => {
                let index = names.services.get(&owned.owner).copied();
                let found = index.and_then(|index| config.services.get_mut(index));
                if found.is_none() {
                    unknown(owned, "service", problems);
                }
                found.map(|service| &mut service.plugins)
            }
        };
        if let Some(place) = place {
            place.push(plugin);
        }
    }
    name_consumers(config, names, problems);
}

/// Consumers of plugins by their usernames, whatever they were called by.
fn name_consumers(config: &mut Config, names: &Names, problems: &mut Problems) {
    let Config {
        services,
        consumers,
        plugins,
        ..
    } = config;
    let routes = services.iter_mut().flat_map(|service| {
        let routes = service
            .routes
            .iter_mut()
            .flat_map(|route| &mut route.plugins);
        routes.chain(&mut service.plugins)
    });
    for plugin in plugins.iter_mut().chain(routes) {
        let Some(called) = &mut plugin.consumer else {
            continue;
        };
        match names
            .consumers
            .get(called)
            .and_then(|at| consumers.get(*at))
        {
            Some(Consumer { username, .. }) => called.clone_from(username),
            None => {
                let expected = format!("expected a consumer of the file, found `{called}`");
                problems.add(
                    node::Place::default(),
                    &format!("{}.consumer", plugin.at),
                    expected,
                );
            }
        }
    }
}

/// A route by its name, and the place of its service.
fn route_mut<'a>(services: &'a mut [Service], name: &str) -> Option<(usize, &'a mut Route)> {
    let services = services.iter_mut().enumerate();
    let mut routes = services.flat_map(|(index, service)| {
        let routes = service.routes.iter_mut();
        routes.map(move |route| (index, route))
    });
    routes.find(|(_, route)| route.name == name)
}

#[cfg(test)]
mod tests;
