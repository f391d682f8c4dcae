//! Services of several targets.

use std::collections::BTreeMap;

use serde::Serialize;

use super::At;

/// A service of several targets.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Upstream {
    /// The name that a service has as its host.
    pub name: String,
    /// How a target is chosen.
    pub algorithm: Algorithm,
    /// What requests are hashed by, and what if they don't have it.
    pub hash_on: [HashOn; 2],
    /// The host that targets are told, and whose certificate they have; their own without.
    pub host_header: Option<String>,
    /// The certificate that targets are shown, by its id, if the service names none.
    pub client_certificate: Option<String>,
    /// How sick targets are found.
    pub healthchecks: Health,
    /// Its targets.
    pub targets: Vec<Target>,
    /// Words to find it by.
    pub tags: Vec<String>,
    #[serde(skip)]
    pub(crate) at: At,
}

/// How a target is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Algorithm {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// The one with the fewest requests at work, for its weight.
    LeastConnections,
    /// The same one for what hashes the same.
    ConsistentHashing,
    /// The one that answers fastest.
    Latency,
}

/// What a request is hashed by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HashOn {
    /// Nothing: in turn.
    #[default]
    None,
    /// The consumer, or the credential.
    Consumer,
    /// The client's address.
    Ip,
    /// A header.
    Header(String),
    /// A cookie, which is set where it is missing, with this path.
    Cookie(String, String),
    /// The path.
    Path,
    /// A parameter of the query.
    QueryArg(String),
}

/// One target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Target {
    /// Its host: a name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its share among the others; 0 is none.
    pub weight: u16,
    #[serde(skip)]
    pub(crate) at: At,
}

/// How sick targets are found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// By asking them; an interval of 0 does not ask.
    pub active: Active,
    /// By how they answer requests.
    pub passive: Passive,
    /// Below this share of healthy weight, in percent, the upstream as a whole is unhealthy.
    pub threshold: f64,
}

/// Asking targets how they are.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Active {
    /// Whether it is enough that they take a connection.
    pub tcp_only: bool,
    /// Whether they are asked with TLS.
    pub https: bool,
    /// The name that their certificates have to have; the target's host without.
    pub https_sni: Option<String>,
    /// Whether their certificates have to be trusted by the system, and to have that name: true.
    pub https_verify_certificate: bool,
    /// Headers that they are asked with.
    pub headers: BTreeMap<String, Vec<String>>,
    /// What is asked for: `/`.
    pub http_path: String,
    /// How long an answer may take, in seconds: 1.
    pub timeout: f64,
    /// How many are asked at once: 10.
    pub concurrency: u32,
    /// How often a healthy one is asked, in seconds: 0, never.
    pub healthy_interval: f64,
    /// How often one that is not is asked, in seconds: 0, never.
    pub unhealthy_interval: f64,
    /// What counts for what.
    pub checks: Checks,
}

/// Counting answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Passive {
    /// What counts for what.
    pub checks: Checks,
}

/// Which answers make a target healthy or unhealthy, and how many of them. 0 is never.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Checks {
    /// Statuses of a healthy target.
    pub healthy_statuses: Vec<u16>,
    /// So many of them in a row make it healthy.
    pub successes: u32,
    /// Statuses of an unhealthy target.
    pub unhealthy_statuses: Vec<u16>,
    /// So many of them make it unhealthy.
    pub http_failures: u32,
    /// So many connections that failed make it unhealthy.
    pub tcp_failures: u32,
    /// So many answers that did not come in time make it unhealthy.
    pub timeouts: u32,
}

impl Default for Active {
    fn default() -> Self {
        Self {
            tcp_only: false,
            https: false,
            https_sni: None,
            https_verify_certificate: true,
            headers: BTreeMap::new(),
            http_path: "/".to_owned(),
            timeout: 1.0,
            concurrency: 10,
            healthy_interval: 0.0,
            unhealthy_interval: 0.0,
            checks: Checks {
                healthy_statuses: vec![200, 302],
                unhealthy_statuses: vec![429, 404, 500, 501, 502, 503, 504, 505],
                ..Checks::never()
            },
        }
    }
}

impl Default for Passive {
    fn default() -> Self {
        let healthy = (200..=208).chain([226]).chain(300..=308);
        Self {
            checks: Checks {
                healthy_statuses: healthy.collect(),
                unhealthy_statuses: vec![429, 500, 503],
                ..Checks::never()
            },
        }
    }
}

impl Checks {
    fn never() -> Self {
        Self {
            healthy_statuses: Vec::new(),
            successes: 0,
            unhealthy_statuses: Vec::new(),
            http_failures: 0,
            tcp_failures: 0,
            timeouts: 0,
        }
    }
}

impl Upstream {
    /// An upstream without targets.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            algorithm: Algorithm::default(),
            hash_on: [HashOn::None, HashOn::None],
            host_header: None,
            client_certificate: None,
            healthchecks: Health::default(),
            targets: Vec::new(),
            tags: Vec::new(),
            at: At::default(),
        }
    }
}
