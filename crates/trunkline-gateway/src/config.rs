//! What the gateway is told, by the names of Kong's declarative file.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Services with their routes, and plugins for all of them. An unknown name is an error, never read over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The services behind the gateway.
    pub services: Vec<Service>,
    /// Plugins for every route.
    pub plugins: Vec<PluginConfig>,
}

/// One service behind the gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Service {
    /// Its name, for which the gateway asks for a channel.
    pub name: String,
    /// Where it runs, if it is not in this process: for whoever makes the channels.
    pub url: Option<String>,
    /// How long an answer may take, in milliseconds; the channel's own 5 s without.
    pub read_timeout: Option<u64>,
    /// The routes that lead to it.
    pub routes: Vec<Route>,
    /// Plugins for all its routes.
    pub plugins: Vec<PluginConfig>,
}

/// Which requests go to a service: those that match one of each list that is not empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Route {
    /// Its name, in metrics and logs.
    pub name: String,
    /// Prefixes of the path, as Kong takes them: `/api` is a prefix of `/api/x` and of `/apis`.
    pub paths: Vec<String>,
    /// Methods.
    pub methods: Vec<String>,
    /// Hosts: exact, or `*.example.com`.
    pub hosts: Vec<String>,
    /// Whether the prefix is taken off before the request goes on. Kong's default: true.
    pub strip_path: bool,
    /// Plugins for this route.
    pub plugins: Vec<PluginConfig>,
}

/// A plugin by its name. The most specific one of a name holds: the route's, then the service's, then that for all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PluginConfig {
    /// Which one.
    pub name: String,
    /// Its settings.
    #[serde(default)]
    pub config: Value,
    /// Whether it is on. A plugin that is off also takes the place of a less specific one.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

impl Config {
    /// Adds a service.
    #[must_use]
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// Adds a plugin for every route.
    #[must_use]
    pub fn plugin(mut self, name: impl Into<String>, config: Value) -> Self {
        self.plugins.push(PluginConfig::new(name, config));
        self
    }
}

impl Service {
    /// A service without routes.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// Adds a route.
    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// Adds a plugin for all its routes.
    #[must_use]
    pub fn plugin(mut self, name: impl Into<String>, config: Value) -> Self {
        self.plugins.push(PluginConfig::new(name, config));
        self
    }
}

impl Default for Route {
    fn default() -> Self {
        Self {
            name: String::new(),
            paths: Vec::new(),
            methods: Vec::new(),
            hosts: Vec::new(),
            strip_path: true,
            plugins: Vec::new(),
        }
    }
}

impl Route {
    /// A route for a prefix of the path.
    pub fn new(name: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            paths: vec![path.into()],
            ..Self::default()
        }
    }

    /// Adds another prefix.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.paths.push(path.into());
        self
    }

    /// Takes this method; every method where none is named.
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.methods.push(method.into());
        self
    }

    /// Takes this host; every host where none is named.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// Sends the whole path on, with its prefix.
    #[must_use]
    pub fn keep_path(self) -> Self {
        Self {
            strip_path: false,
            ..self
        }
    }

    /// Adds a plugin for this route.
    #[must_use]
    pub fn plugin(mut self, name: impl Into<String>, config: Value) -> Self {
        self.plugins.push(PluginConfig::new(name, config));
        self
    }
}

impl PluginConfig {
    /// A plugin with its settings, switched on.
    pub fn new(name: impl Into<String>, config: Value) -> Self {
        Self {
            name: name.into(),
            config,
            enabled: true,
        }
    }
}
