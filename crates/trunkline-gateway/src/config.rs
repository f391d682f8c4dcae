//! What the gateway is told, by the names of Kong's declarative file.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::file::Source;
pub use certificate::{CaCertificate, Certificate};
pub use upstream::{Active, Algorithm, Checks, HashOn, Health, Passive, Target, Upstream};

mod certificate;
mod upstream;

/// The path of something in the file that it was read from; empty for what no file says.
pub(crate) type At = Box<str>;

/// What is behind the gateway, who may use it, and plugins for all of it. An unknown name is an error, never read over.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Config {
    /// The services behind the gateway.
    pub services: Vec<Service>,
    /// Services of several targets, by the name that a service has as its host.
    pub upstreams: Vec<Upstream>,
    /// Certificates that the gateway shows.
    pub certificates: Vec<Certificate>,
    /// Authorities that services' certificates are trusted by.
    pub ca_certificates: Vec<CaCertificate>,
    /// Who may use it.
    pub consumers: Vec<Consumer>,
    /// Plugins for every route.
    pub plugins: Vec<PluginConfig>,
    /// The file that it was read from.
    #[serde(skip)]
    pub(crate) source: Option<Arc<Source>>,
}

/// One service behind the gateway.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Service {
    /// Its name, for which the gateway asks for a channel.
    pub name: String,
    /// Where it is, if the gateway reaches it by itself and not by a channel.
    pub url: Option<Url>,
    /// How often a request is tried again at another target, or at the same, of a service with a `url`: 5.
    pub retries: Option<u16>,
    /// How long connecting may take where there is a `url`, in milliseconds: 60,000.
    pub connect_timeout: Option<u32>,
    /// How long the service may pause before it takes more of a request where there is a `url`, in milliseconds: 60,000.
    pub write_timeout: Option<u32>,
    /// How long the service may pause before it gives more of an answer, in milliseconds: 60,000 where there is a `url`.
    /// Without, how long the whole answer may take: the channel's own 5 s.
    pub read_timeout: Option<u32>,
    /// The certificate that the gateway shows it, by its id.
    pub client_certificate: Option<String>,
    /// Whether its certificate has to be trusted and to have its name: true.
    pub tls_verify: bool,
    /// How many authorities may stand between its certificate and a root.
    pub tls_verify_depth: Option<u8>,
    /// The authorities that its certificate is trusted by, by their ids; the system's without.
    pub ca_certificates: Vec<String>,
    /// The routes that lead to it.
    pub routes: Vec<Route>,
    /// Plugins for all its routes.
    pub plugins: Vec<PluginConfig>,
    /// Words to find it by.
    pub tags: Vec<String>,
    #[serde(skip)]
    pub(crate) at: At,
}

/// Where a service is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Url {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Its host, or the name of an upstream.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What every path begins with; nothing without.
    pub path: Option<String>,
}

/// How a service is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/1.1 or HTTP/2 over TLS.
    Https,
    /// HTTP/2 without TLS.
    Grpc,
    /// HTTP/2 over TLS.
    Grpcs,
}

/// Which requests go to a service: those that match one of each list that is not empty.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Route {
    /// Its name, in metrics and logs.
    pub name: String,
    /// Prefixes of the path, as Kong takes them: `/api` is a prefix of `/api/x` and of `/apis`; and after `~` regular
    /// expressions that match from the path's beginning.
    pub paths: Vec<String>,
    /// Methods.
    pub methods: Vec<String>,
    /// Hosts: exact, `*.example.com` or `example.*`, each perhaps with a port.
    pub hosts: Vec<String>,
    /// Headers by their names, each with the values that it may have; one that begins with `~*` is an expression.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Names that a client asks for in its TLS handshake.
    pub snis: Vec<String>,
    /// Whether requests are taken without TLS, with it, or both.
    pub schemes: Schemes,
    /// Which of two expressions is tried first: the one with more.
    pub regex_priority: i32,
    /// Whether the prefix is taken off before the request goes on. Kong's default: true.
    pub strip_path: bool,
    /// Whether the service is told the host that the client named, and not its own.
    pub preserve_host: bool,
    /// What a request without TLS is answered where the route is for TLS alone.
    pub https_redirect_status_code: u16,
    /// Plugins for this route.
    pub plugins: Vec<PluginConfig>,
    /// Words to find it by.
    pub tags: Vec<String>,
    #[serde(skip)]
    pub(crate) at: At,
}

/// Whether a route takes requests with TLS, without, or both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Schemes {
    /// Both.
    #[default]
    Any,
    /// Without TLS alone.
    Http,
    /// With TLS alone.
    Https,
}

/// A plugin by its name. The most specific one of a name holds: of the consumer on the route, on the service and for
/// all, then the route's, then the service's, then that for all.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PluginConfig {
    /// Which one.
    pub name: String,
    /// Its settings.
    pub config: Value,
    /// Whether it is on. One that is off is as one that is not there: a less specific one holds, as for Kong.
    pub enabled: bool,
    /// The one consumer, by its name, for whose requests it is.
    pub consumer: Option<String>,
    #[serde(skip)]
    pub(crate) at: At,
}

/// Who may use what is behind the gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Consumer {
    /// The consumer's name.
    pub username: String,
    /// What others know them by.
    pub custom_id: Option<String>,
    /// Keys of their own to sign tokens with.
    pub jwt_secrets: Vec<JwtSecret>,
    /// Keys that they show.
    pub keyauth_credentials: Vec<KeyCredential>,
    /// The groups that they are in.
    pub groups: Vec<String>,
    /// Words to find them by.
    pub tags: Vec<String>,
    #[serde(skip)]
    pub(crate) at: At,
}

/// A key that a consumer's tokens are signed with.
#[derive(Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct JwtSecret {
    /// What a token's `iss` names it by.
    pub key: String,
    /// `HS256`, `RS256`, `ES256`, `EdDSA` and their like.
    pub algorithm: String,
    /// The secret of an `HS` algorithm.
    #[serde(skip)]
    pub secret: Option<String>,
    /// The public key of the others, as PEM.
    pub rsa_public_key: Option<String>,
    #[serde(skip)]
    pub(crate) at: At,
}

/// A key that a consumer shows.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeyCredential {
    /// The key.
    #[serde(skip)]
    pub key: String,
    #[serde(skip)]
    pub(crate) at: At,
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

impl Default for Service {
    fn default() -> Self {
        Self {
            name: String::new(),
            url: None,
            retries: None,
            connect_timeout: None,
            write_timeout: None,
            read_timeout: None,
            client_certificate: None,
            tls_verify: true,
            tls_verify_depth: None,
            ca_certificates: Vec::new(),
            routes: Vec::new(),
            plugins: Vec::new(),
            tags: Vec::new(),
            at: At::default(),
        }
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
            headers: BTreeMap::new(),
            snis: Vec::new(),
            schemes: Schemes::Any,
            regex_priority: 0,
            strip_path: true,
            preserve_host: false,
            https_redirect_status_code: 426,
            plugins: Vec::new(),
            tags: Vec::new(),
            at: At::default(),
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
            consumer: None,
            at: At::default(),
        }
    }
}

impl fmt::Debug for JwtSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtSecret")
            .field("key", &self.key)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for KeyCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCredential").finish_non_exhaustive()
    }
}
