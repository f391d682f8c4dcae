//! From a configuration to a table of routes. All mistakes are found at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use regex::RegexBuilder;
use serde_json::Value;
use trunkline_call::Channel;
use trunkline_core::{ByteString, Env};

use crate::beside::{drop_each, give_way};
use crate::config::{Config, PluginConfig, Route, Service};
use crate::consumers::Consumers;
use crate::file::{Problems, Source};
use crate::forward::Onward;
use crate::means::Means;
use crate::path::normalise;
use crate::plugin::{self, Making, Order, Plugin};
use crate::route::{HeaderRule, HostRule, Name, PathRule, Slot, Table, Target, Way, why};
use crate::tls::Tls;
use crate::upstream::{Links, Upstreams};
use crate::workers::Workers;

/// A longer prefix or expression is refused.
const PATH_BYTES_MAX: usize = 4_096;

/// A request holds the configuration while it looks for its route, for microseconds. One that still does when it was
/// looked for so often, with a pause after each look, frees it.
const RETIRE_TRIES: u32 = 100;
const RETIRE_PAUSE: Duration = Duration::from_millis(1);

/// The plugins of a scope, by their place in the order.
type Plugins = BTreeMap<Order, Slot>;

/// What a configuration is made with.
pub(crate) struct Ports {
    pub(crate) channel_of: Box<dyn Fn(&str) -> Channel + Send + Sync>,
    pub(crate) means: Means,
    pub(crate) workers: Workers,
    pub(crate) env: Env,
    /// Whether services may run in this process; otherwise each has to say where it is.
    pub(crate) has_services: bool,
}

/// A configuration, ready to be used.
pub(crate) struct Compiled {
    pub(crate) table: Table<Arc<Target>>,
    /// What clients are shown, if there is anything.
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) upstreams: Upstreams,
    /// Plugins that remember requests, to go on with in the next configuration.
    kept: Kept,
}

impl Compiled {
    /// Frees one that nobody goes by any more here, giving way meanwhile, and not where a request lets go of it: that takes
    /// milliseconds.
    pub(crate) fn retire(mut this: Arc<Self>) {
        for _ in 0..RETIRE_TRIES {
            match Arc::try_unwrap(this) {
                Ok(Self { table, kept, .. }) => {
                    table.release();
                    return drop_each(kept);
                }
                Err(held) => this = held,
            }
            std::thread::sleep(RETIRE_PAUSE);
        }
    }
}

/// Plugins by their scope, name and consumer, with the settings that they were made by.
type Kept = HashMap<(String, String, Option<String>), (Value, Arc<dyn Plugin>)>;

/// Compiles a configuration. A plugin that remembers requests and stands where it stood, with the same settings, is the
/// same as in the one before.
pub(crate) fn compile(
    config: &Config,
    ports: &Ports,
    before: Option<&Compiled>,
) -> Result<Compiled, Problems> {
    let env = &ports.env;
    let mut wrong = Vec::new();
    let consumers_wrong = |at: String, why: String| wrong.push((at, why));
    let consumers = Consumers::of(&config.consumers, env, consumers_wrong);
    let mut compiler = Compiler {
        making: Making {
            means: &ports.means,
            workers: &ports.workers,
            consumers,
            env,
            scope: String::new(),
            service: None,
        },
        before: before.map(|before| &before.kept),
        kept: Kept::new(),
        problems: Problems::default(),
        names: HashSet::new(),
        source: config.source.as_deref(),
        has_services: ports.has_services,
    };
    let known = before.map(|before| &before.upstreams);
    let mut links = Links::new(config, known, env, &mut wrong);
    compiler.all_wrong(&mut wrong);
    let mut ways = Vec::new();
    let global = compiler.plugins(("plugins", ""), &config.plugins, Plugins::new());
    for (index, service) in config.services.iter().enumerate() {
        let at = place(&service.at, || format!("services[{index}]"));
        compiler.service(&at, service);
        compiler.making.service = Some(&service.name);
        let scope = format!("service {}", service.name);
        let inside = format!("{at}.plugins");
        let plugins = compiler.plugins((&inside, &scope), &service.plugins, global.clone());
        let reached = reached(ports, &mut links, (&at, service), &mut wrong);
        compiler.all_wrong(&mut wrong);
        for (index, route) in service.routes.iter().enumerate() {
            give_way();
            let at = place(&route.at, || format!("{at}.routes[{index}]"));
            let inside = format!("{at}.plugins");
            let scope = format!("route {}", route.name);
            let plugins = compiler.plugins((&inside, &scope), &route.plugins, plugins.clone());
            let Some((onward, base)) = &reached else {
                compiler.ways(&at, route, &());
                continue;
            };
            let target = target((service, route), (onward, base), plugins);
            ways.extend(compiler.ways(&at, route, &Arc::new(target)));
        }
    }
    let tls = compiler.tls(config, before);
    if compiler.problems.is_empty() {
        Ok(Compiled {
            table: Table::new(ways),
            tls,
            upstreams: links.done(),
            kept: compiler.kept,
        })
    } else {
        Err(compiler.problems)
    }
}

/// The path of something: the file's, or the one that it has here.
fn place(at: &str, otherwise: impl FnOnce() -> String) -> String {
    if at.is_empty() {
        otherwise()
    } else {
        at.to_owned()
    }
}

/// How a service is reached, and what it has before every path.
type Reached = (Onward, Option<Arc<str>>);

fn reached(
    ports: &Ports,
    links: &mut Links<'_>,
    (at, service): (&str, &Service),
    wrong: &mut Vec<(String, String)>,
) -> Option<Reached> {
    let base = match service.url.as_ref().and_then(|url| url.path.as_deref()) {
        None | Some("/") => None,
        Some(path) => match normalise(path) {
            Ok(path) => Some(Arc::from(path)),
            Err(error) => {
                let expected = format!("{}, found `{path}`", error.message());
                wrong.push((format!("{at}.path"), expected));
                return None;
            }
        },
    };
    let url = service
        .url
        .as_ref()
        .filter(|_| !ports.means.has(&service.name));
    let Some(url) = url else {
        let timeout = service.read_timeout;
        let timeout = timeout.map(|millis| Duration::from_millis(millis.into()));
        let channel = (ports.channel_of)(&service.name);
        return Some((Onward::Channel(channel, timeout), base));
    };
    let backend = links.backend(at, service, url, wrong)?;
    Some((Onward::Upstream(Arc::new(backend)), base))
}

fn target(
    (service, route): (&Service, &Route),
    (onward, base): (&Onward, &Option<Arc<str>>),
    plugins: Plugins,
) -> Target {
    let has_cors = plugin::place("cors")
        .and_then(|place| plugins.get(&place))
        .is_some_and(|slot| slot.all.is_some());
    Target {
        name: ByteString::from(&*route.name),
        service: ByteString::from(&*service.name),
        onward: onward.clone(),
        base: base.clone(),
        strip_path: route.strip_path,
        preserve_host: route.preserve_host,
        schemes: route.schemes,
        redirect: StatusCode::from_u16(route.https_redirect_status_code)
            .unwrap_or(StatusCode::UPGRADE_REQUIRED),
        plugins: plugins
            .into_values()
            .filter(|slot| !slot.is_empty())
            .collect(),
        answers_preflights: has_cors,
        meters: OnceLock::new(),
    }
}

struct Compiler<'a> {
    making: Making<'a>,
    before: Option<&'a Kept>,
    kept: Kept,
    problems: Problems,
    /// Names that are taken: services and routes have one space each.
    names: HashSet<String>,
    source: Option<&'a Source>,
    has_services: bool,
}

impl Compiler<'_> {
    fn wrong(&mut self, at: impl Display, problem: impl Display) {
        let at = at.to_string();
        let place = self.source.map(|source| source.place_of(&at));
        self.problems.add(place.unwrap_or_default(), &at, problem);
    }

    fn tls(&mut self, config: &Config, before: Option<&Compiled>) -> Option<Arc<Tls>> {
        let before = before.and_then(|before| before.tls.as_ref());
        let certificates = &config.certificates;
        Tls::of(certificates, before, |index, (field, expected)| {
            let at = certificates.get(index).map_or("", |found| &*found.at);
            let at = place(at, || format!("certificates[{index}]"));
            self.wrong(format!("{at}.{field}"), expected);
        })
    }

    fn all_wrong(&mut self, wrong: &mut Vec<(String, String)>) {
        for (at, why) in wrong.drain(..) {
            self.wrong(at, why);
        }
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
        if !self.has_services && service.url.is_none() {
            self.wrong(
                at,
                "expected `url` or `host`: no service runs in this process",
            );
        }
    }

    /// The plugins of a scope over those of the scope around it.
    fn plugins(
        &mut self,
        (at, scope): (&str, &str),
        configs: &[PluginConfig],
        around: Plugins,
    ) -> Plugins {
        let mut plugins = around;
        let mut taken = HashSet::new();
        for (index, config) in configs.iter().enumerate() {
            let at = place(&config.at, || format!("{at}[{index}]"));
            let Some((order, made)) = self.plugin(&at, scope, config) else {
                continue;
            };
            if !taken.insert((order.clone(), &config.consumer)) {
                let name = &config.name;
                self.wrong(at, format!("expected `{name}` once, found it again"));
            }
            if !config.enabled {
                continue;
            }
            let slot = plugins.entry(order).or_default();
            let made = Some(made);
            match &config.consumer {
                None => slot.all = made,
                Some(consumer) => {
                    let consumers = Arc::make_mut(&mut slot.of_consumers);
                    consumers.insert(ByteString::from(&**consumer), made);
                }
            }
        }
        plugins
    }

    fn plugin(
        &mut self,
        at: &str,
        scope: &str,
        config: &PluginConfig,
    ) -> Option<(Order, Arc<dyn Plugin>)> {
        let settings = &config.config;
        let id = (
            scope.to_owned(),
            config.name.clone(),
            config.consumer.clone(),
        );
        let before = self.before.and_then(|before| before.get(&id));
        let before = before.filter(|(made_by, _)| made_by == settings);
        let before = before.map(|(_, plugin)| plugin.clone());
        if config.consumer.is_some() && plugin::is_for_all(&config.name) {
            let expected = "expected no consumer: this plugin is for whoever asks";
            self.wrong(format!("{at}.consumer"), expected);
        }
        let consumer = config.consumer.as_deref().unwrap_or_default();
        self.making.scope = format!("{scope} {consumer}");
        let made = self.making.make(&config.name, || settings.clone(), before);
        let Some((order, made)) = made else {
            let (known, found) = (self.making.names(), &config.name);
            let expected = format!("expected one of {known}, found `{found}`");
            self.wrong(format!("{at}.name"), expected);
            return None;
        };
        match made {
            Ok(made) => {
                if made.remembers() {
                    self.kept.insert(id, (settings.clone(), made.clone()));
                }
                Some((order, made))
            }
            Err(first) => {
                let all = self.making.mistakes(&config.name, settings, first);
                for (inside, expected) in all {
                    let dot = if inside.is_empty() { "" } else { "." };
                    self.wrong(format!("{at}.config{dot}{inside}"), expected);
                }
                None
            }
        }
    }

    fn ways<T: Clone>(&mut self, at: &str, route: &Route, target: &T) -> Vec<Way<T>> {
        self.name(at, "route", &route.name);
        let asks = [&route.paths, &route.hosts, &route.methods, &route.snis];
        if asks.iter().all(|list| list.is_empty()) && route.headers.is_empty() {
            self.wrong(at, "expected paths, hosts, methods, headers or snis");
        }
        let paths = self.paths(at, route);
        let methods = self.methods(at, route);
        let hosts = self.hosts(at, route);
        let headers = self.headers(at, route);
        let mut ways = Vec::with_capacity(hosts.len() * paths.len());
        for host in &hosts {
            for path in &paths {
                ways.push(Way {
                    host: host.clone(),
                    path: path.clone(),
                    methods: methods.clone(),
                    headers: headers.clone(),
                    snis: route.snis.clone(),
                    regex_priority: route.regex_priority,
                    target: target.clone(),
                });
            }
        }
        ways
    }

    fn paths(&mut self, at: &str, route: &Route) -> Vec<PathRule> {
        let mut rules = Vec::with_capacity(route.paths.len());
        for (index, path) in route.paths.iter().enumerate() {
            let at = format!("{at}.paths[{index}]");
            if path.len() > PATH_BYTES_MAX {
                self.wrong(at, format!("expected at most {PATH_BYTES_MAX} bytes"));
            } else if let Some(pattern) = path.strip_prefix('~') {
                match PathRule::regex(pattern) {
                    Ok(rule) => rules.push(rule),
                    Err(why) => self.wrong(at, format!("expected an expression: {why}")),
                }
            } else {
                match normalise(path) {
                    Ok(normal) if normal == *path => rules.push(PathRule::Prefix(normal)),
                    Ok(normal) => self.wrong(at, format!("expected `{normal}`, found `{path}`")),
                    Err(error) => self.wrong(at, format!("{}, found `{path}`", error.message())),
                }
            }
        }
        if route.paths.is_empty() {
            rules.push(PathRule::Prefix(String::new()));
        }
        rules
    }

    fn headers(&mut self, at: &str, route: &Route) -> Vec<HeaderRule> {
        let mut rules = Vec::with_capacity(route.headers.len());
        for (name, values) in &route.headers {
            let at = format!("{at}.headers.{name}");
            let Ok(name) = HeaderName::try_from(&**name) else {
                self.wrong(at, "expected the name of a header");
                continue;
            };
            if name == http::header::HOST {
                self.wrong(at, "expected another header: write `hosts`");
                continue;
            }
            let (patterns, values): (Vec<_>, Vec<_>) =
                values.iter().partition(|value| value.starts_with("~*"));
            let patterns = patterns.iter().map(|pattern| {
                let pattern = pattern.strip_prefix("~*").unwrap_or(pattern);
                let mut built = RegexBuilder::new(pattern);
                built.case_insensitive(true).size_limit(256 * 1024).build()
            });
            match patterns.collect::<Result<Vec<_>, _>>() {
                Ok(patterns) => rules.push(HeaderRule {
                    name,
                    values: values
                        .iter()
                        .map(|value| value.to_ascii_lowercase())
                        .collect(),
                    patterns,
                }),
                Err(error) => {
                    self.wrong(at, format!("expected an expression: {}", why(&error)));
                }
            }
        }
        rules
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
            match host_rule(host) {
                Some(rule) => hosts.push(rule),
                None => self.wrong(
                    format!("{at}.hosts[{index}]"),
                    format!("expected a host, `*.` and a domain, or a domain and `.*`, perhaps with a port, found `{host}`"),
                ),
            }
        }
        if route.hosts.is_empty() {
            hosts.push(HostRule::ANY);
        }
        hosts
    }
}

pub(crate) fn host_rule(host: &str) -> Option<HostRule> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
            (name, Some(port.parse().ok()?))
        }
        _ => (host, None),
    };
    let name = name.to_ascii_lowercase();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_plain = |name: &str| !name.is_empty() && name.bytes().all(plain);
    let is_address = |name: &str| {
        let inside = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'));
        inside.is_some_and(|inside| inside.parse::<std::net::Ipv6Addr>().is_ok())
    };
    let name = if let Some(domain) = name.strip_prefix("*.").filter(|name| is_plain(name)) {
        Name::Below(format!(".{domain}"))
    } else if let Some(domain) = name.strip_suffix(".*").filter(|name| is_plain(name)) {
        Name::Above(format!("{domain}."))
    } else if is_plain(&name) || is_address(&name) {
        Name::Exact(name)
    } else {
        return None;
    };
    Some(HostRule { name, port })
}
