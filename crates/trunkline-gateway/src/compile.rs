//! From a configuration to a table of routes. All mistakes are found at once.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Method;
use trunkline_call::Channel;
use trunkline_core::{ByteString, Error, Result};

use crate::config::{Config, PluginConfig, Route, Service};
use crate::path::normalise;
use crate::plugin::{self, Making, Plugin};
use crate::route::{HostRule, Table, Target, Way};

/// The plugins of a scope, by their place in the order; `None` for one that is switched off.
type Plugins = BTreeMap<usize, Option<Arc<dyn Plugin>>>;

pub(crate) fn compile(
    config: &Config,
    channel_of: impl Fn(&str) -> Channel,
    making: &Making<'_>,
) -> Result<Table<Arc<Target>>> {
    let mut compiler = Compiler {
        making,
        problems: Vec::new(),
        names: HashSet::new(),
    };
    let mut ways = Vec::new();
    let global = compiler.plugins("plugins", &config.plugins);
    for (index, service) in config.services.iter().enumerate() {
        let at = format!("services[{index}]");
        compiler.service(&at, service);
        let mut plugins = global.clone();
        plugins.extend(compiler.plugins(&format!("{at}.plugins"), &service.plugins));
        let channel = channel_of(&service.name);
        for (index, route) in service.routes.iter().enumerate() {
            let at = format!("{at}.routes[{index}]");
            let mut plugins = plugins.clone();
            plugins.extend(compiler.plugins(&format!("{at}.plugins"), &route.plugins));
            let target = target(service, route, channel.clone(), &plugins);
            ways.extend(compiler.ways(&at, route, &Arc::new(target)));
        }
    }
    if compiler.problems.is_empty() {
        Ok(Table::new(ways))
    } else {
        Err(refusal(&compiler.problems))
    }
}

fn refusal(problems: &[String]) -> Error {
    let message = format!(
        "the gateway's configuration is wrong at {}",
        problems.join("; at ")
    );
    Error::invalid("gateway_config_invalid", message)
}

fn target(service: &Service, route: &Route, channel: Channel, plugins: &Plugins) -> Target {
    let cors = plugin::kind("cors").map(|(place, _)| place);
    let has_cors = cors
        .and_then(|place| plugins.get(&place))
        .is_some_and(Option::is_some);
    Target {
        name: ByteString::from(&*route.name),
        service: ByteString::from(&*service.name),
        channel,
        strip_path: route.strip_path,
        timeout: service.read_timeout.map(Duration::from_millis),
        plugins: plugins.values().flatten().cloned().collect(),
        answers_preflights: has_cors,
        meters: OnceLock::new(),
    }
}

struct Compiler<'a> {
    making: &'a Making<'a>,
    /// Each with its place: `services[0].routes[1].paths[0]: expected ...`.
    problems: Vec<String>,
    /// Names that are taken: services and routes have one space each.
    names: HashSet<String>,
}

impl Compiler<'_> {
    fn wrong(&mut self, at: impl Display, problem: impl Display) {
        self.problems.push(format!("{at}: {problem}"));
    }

    fn name(&mut self, at: &str, kind: &str, name: &str) {
        let at = format!("{at}.name");
        if name.is_empty() {
            self.wrong(at, "expected a name");
        } else if !self.names.insert(format!("{kind} {name}")) {
            self.wrong(
                at,
                format!("expected a name of its own, found a second `{name}`"),
            );
        }
    }

    fn service(&mut self, at: &str, service: &Service) {
        self.name(at, "service", &service.name);
        if service.read_timeout == Some(0) {
            self.wrong(
                format!("{at}.read_timeout"),
                "expected milliseconds above 0",
            );
        }
        if service.routes.is_empty() {
            self.wrong(
                format!("{at}.routes"),
                "expected a route: nothing leads here",
            );
        }
    }

    fn plugins(&mut self, at: &str, configs: &[PluginConfig]) -> Plugins {
        let mut plugins = Plugins::new();
        for (index, config) in configs.iter().enumerate() {
            let at = format!("{at}[{index}]");
            let Some((place, make)) = plugin::kind(&config.name) else {
                let known = plugin::names();
                let found = &config.name;
                self.wrong(
                    format!("{at}.name"),
                    format!("expected one of {known}, found `{found}`"),
                );
                continue;
            };
            let made = match make(config.config.clone(), self.making) {
                Ok(made) => made,
                Err((inside, expected)) => {
                    let dot = if inside.is_empty() { "" } else { "." };
                    self.wrong(format!("{at}.config{dot}{inside}"), expected);
                    continue;
                }
            };
            if plugins
                .insert(place, config.enabled.then_some(made))
                .is_some()
            {
                let name = &config.name;
                self.wrong(at, format!("expected `{name}` once, found it again"));
            }
        }
        plugins
    }

    fn ways(&mut self, at: &str, route: &Route, target: &Arc<Target>) -> Vec<Way<Arc<Target>>> {
        self.name(at, "route", &route.name);
        if route.paths.is_empty() && route.hosts.is_empty() && route.methods.is_empty() {
            self.wrong(at, "expected paths, hosts or methods");
        }
        let prefixes = self.prefixes(at, route);
        let methods = self.methods(at, route);
        let hosts = self.hosts(at, route);
        let mut ways = Vec::with_capacity(hosts.len() * prefixes.len());
        for host in &hosts {
            for prefix in &prefixes {
                ways.push(Way {
                    host: host.clone(),
                    prefix: prefix.clone(),
                    methods: methods.clone(),
                    target: target.clone(),
                });
            }
        }
        ways
    }

    fn prefixes(&mut self, at: &str, route: &Route) -> Vec<String> {
        for (index, path) in route.paths.iter().enumerate() {
            let at = format!("{at}.paths[{index}]");
            if path.starts_with('~') {
                self.wrong(
                    at,
                    "expected a prefix: regular expressions are not supported",
                );
            } else {
                match normalise(path) {
                    Ok(normal) if normal == *path => {}
                    Ok(normal) => self.wrong(at, format!("expected `{normal}`, found `{path}`")),
                    Err(error) => self.wrong(at, format!("{}, found `{path}`", error.message())),
                }
            }
        }
        if route.paths.is_empty() {
            vec![String::new()]
        } else {
            route.paths.clone()
        }
    }

    fn methods(&mut self, at: &str, route: &Route) -> Vec<Method> {
        let mut methods = Vec::with_capacity(route.methods.len());
        for (index, name) in route.methods.iter().enumerate() {
            let capital = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase());
            match Method::from_bytes(name.as_bytes()) {
                Ok(method) if capital && method != Method::CONNECT => methods.push(method),
                _ => self.wrong(
                    format!("{at}.methods[{index}]"),
                    format!("expected a method in capitals, such as GET, found `{name}`"),
                ),
            }
        }
        methods
    }

    fn hosts(&mut self, at: &str, route: &Route) -> Vec<HostRule> {
        let mut hosts = Vec::with_capacity(route.hosts.len());
        for (index, host) in route.hosts.iter().enumerate() {
            let (below, name) = match host.strip_prefix("*.") {
                Some(name) => (true, name),
                None => (false, &**host),
            };
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if name.is_empty() || !name.bytes().all(plain) {
                self.wrong(
                    format!("{at}.hosts[{index}]"),
                    format!("expected a host without a port, or `*.` and a domain, found `{host}`"),
                );
            } else if below {
                hosts.push(HostRule::Below(format!(".{name}")));
            } else {
                hosts.push(HostRule::Exact(name.to_owned()));
            }
        }
        if route.hosts.is_empty() {
            hosts.push(HostRule::Any);
        }
        hosts
    }
}
