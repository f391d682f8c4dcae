//! A platform: services, flows and a gateway, and how they start.

mod assemble;
mod auditing;
mod development;
mod discovery;
mod engine;
mod folder;
mod front;
mod handover;
mod health;
mod parts;
mod running;
mod secure;
mod topics;
mod unit;

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use trunkline_bus::DeadLetter;
use trunkline_core::schema::{check_dir, write_dir};
use trunkline_core::{ByteString, Env, EventDecl, Result};
use trunkline_saga::{Flow, Instance, Probe};
use trunkline_security::Permissions;
use trunkline_telemetry::SpanSink;

use self::front::Declared;
use crate::alerts::Hooks;
use crate::{Config, Processes, Service, topology};

pub(crate) use engine::{Backbones, check_shared};
pub use running::Running;

/// The name under which the platform itself keeps its trail.
pub(crate) const PLATFORM: &str = "platform";

/// A list of services that run together: in one process, or each where the configuration says.
pub struct Platform {
    pub(crate) name: ByteString,
    pub(crate) version: ByteString,
    pub(crate) services: Vec<Service>,
    pub(crate) flows: Vec<Flow>,
    pub(crate) gateway: Option<Declared>,
    pub(crate) schemas: Option<PathBuf>,
    pub(crate) sinks: Vec<Arc<dyn SpanSink>>,
    pub(crate) hooks: Hooks,
    pub(crate) probe: Option<Arc<dyn Probe>>,
    pub(crate) env: Env,
}

impl Platform {
    /// A platform without services.
    pub fn new(name: impl Into<ByteString>) -> Self {
        Self {
            name: name.into(),
            version: ByteString::from_static("0.0.0"),
            services: Vec::new(),
            flows: Vec::new(),
            gateway: None,
            schemas: None,
            sinks: Vec::new(),
            hooks: Hooks::default(),
            probe: None,
            env: Env::system(),
        }
    }

    /// Its version.
    #[must_use]
    pub fn version(mut self, version: impl Into<ByteString>) -> Self {
        self.version = version.into();
        self
    }

    /// Adds a service.
    #[must_use]
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// Adds services.
    #[must_use]
    pub fn services(mut self, services: impl IntoIterator<Item = Service>) -> Self {
        self.services.extend(services);
        self
    }

    /// Declares a flow of events.
    #[must_use]
    pub fn flow(mut self, flow: Flow) -> Self {
        self.flows.push(flow);
        self
    }

    /// Puts a gateway in front; the means, perhaps a verifier of tokens alone, are what its plugins work with.
    #[must_use]
    pub fn gateway(
        mut self,
        config: trunkline_gateway::Config,
        means: impl Into<trunkline_gateway::Means>,
    ) -> Self {
        self.gateway = Some(Declared::new(config, means.into()));
        self
    }

    /// Checks at the start that no event's schema differs from the one that is kept in this folder.
    #[must_use]
    pub fn schemas(mut self, dir: impl Into<PathBuf>) -> Self {
        self.schemas = Some(dir.into());
        self
    }

    /// Sends finished spans to one more place.
    #[must_use]
    pub fn span_sink(mut self, sink: Arc<dyn SpanSink>) -> Self {
        self.sinks.push(sink);
        self
    }

    /// Calls this for each key that is parked, when its first dead letter is kept; quickly, for the subscription waits for it, and in
    /// this process, so not if it is killed before. `[alerts]` in the configuration names a webhook that is told the same, and that
    /// even then; [`Service::on_dead_letter`](crate::Service::on_dead_letter) is a handler that runs even then.
    #[must_use]
    pub fn on_dead_letter(mut self, hook: impl Fn(&DeadLetter) + Send + Sync + 'static) -> Self {
        self.hooks.dead_letter = Some(Arc::new(hook));
        self
    }

    /// Calls this with the service's name for each instance of a saga that is parked; quickly, for the saga's engine waits for it, and
    /// in this process, so not if it is killed before. The webhook of `[alerts]` is told the same, and that even then.
    #[must_use]
    pub fn on_saga_parked(
        mut self,
        hook: impl Fn(&str, &Instance) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.saga_parked = Some(Arc::new(hook));
        self
    }

    /// Does to the sagas of all services what a test wants; for the test kit's crash kit.
    #[must_use]
    pub fn saga_probe(mut self, probe: Arc<dyn Probe>) -> Self {
        self.probe = Some(probe);
        self
    }

    /// Takes time, randomness and ids from elsewhere.
    #[must_use]
    pub fn env(mut self, env: Env) -> Self {
        self.env = env;
        self
    }

    /// What each service may use of which other: what they declare, what the gateway leads to, and what the console looks
    /// into.
    pub fn permissions(&self) -> Permissions {
        let gateway = self.gateway.as_ref().map(|declared| &declared.config);
        topology::permissions(&self.services, gateway)
    }

    /// Checks that the services, flows and schemas fit together.
    ///
    /// # Errors
    /// `InvalidInput` for the first thing that does not, naming it.
    pub fn check(&self) -> Result<()> {
        topology::check(&self.services, &self.flows)?;
        if let Some(declared) = &self.gateway {
            topology::check_gateway(&declared.config, &self.services)?;
        }
        match &self.schemas {
            Some(dir) => check_dir(dir, &self.events()),
            None => Ok(()),
        }
    }

    /// Writes the schemas of new versions of events to a folder; those that are there stay as they are.
    ///
    /// # Errors
    /// `InvalidInput` for a changed event without a new version; `Unavailable` when the folder can't be written.
    pub fn write_schemas(&self, dir: &std::path::Path) -> Result<Vec<PathBuf>> {
        write_dir(dir, &self.events())
    }

    /// Every event type, once for each version.
    pub fn events(&self) -> Vec<EventDecl> {
        events_of(&self.services)
    }

    /// Every service that the configuration says runs on this machine, in a process of its own, and the gateway with
    /// the trail and the console in one more, the last. `program` is told a name, and gives the program that runs what
    /// has this name as [`Config::run`] means it; where each finds the others is added to its environment.
    ///
    /// # Errors
    /// `InvalidInput` for what [`Platform::check`] finds, and for a bus that processes can't share; `Unavailable` when no
    /// port is free.
    pub fn processes(
        &self,
        config: &Config,
        program: impl FnMut(&str) -> Command,
    ) -> Result<Processes> {
        self.check()?;
        topology::check_sections(config, &self.services)?;
        engine::check_shared(config)?;
        // Once for all parts, which then find what they need.
        let development = development::Development {
            config: Arc::new(config.clone()),
            platform: self.name.clone(),
            names: secure::names_here(config, &self.services),
            env: self.env.clone(),
        };
        development.prepare()?;
        let names = self.services.iter().map(|service| &*service.name);
        let parts = parts::of(config, names, program)?;
        let grace = Duration::from_secs(config.shutdown_seconds.saturating_mul(3));
        Ok(Processes::new(parts, grace))
    }

    /// Starts everything that the configuration says runs in this process: stores, relays, routes, consumers, jobs, the gateway and the admin address. It returns
    /// when requests are taken.
    ///
    /// # Errors
    /// What could not be started and what was expected: the declaration, the data folder, a store, the bus, an
    /// address that is in use. Whatever had started is stopped again.
    pub async fn start(self, config: Config) -> Result<Running> {
        let platform = self.by_file(&config)?;
        platform.check()?;
        topology::check_sections(&config, &platform.services)?;
        let gateway = platform.gateway.as_ref().map(|declared| &declared.config);
        topology::check_places(&config, &platform.services, gateway)?;
        topology::check_keys(&config, &platform.services, gateway)?;
        Box::pin(assemble::start(platform, config)).await
    }
}

/// Every event type of these services, once for each version.
fn events_of(services: &[Service]) -> Vec<EventDecl> {
    let mut events: Vec<EventDecl> = services.iter().flat_map(Service::events).collect();
    events.sort_by_key(|decl| (decl.event_type, decl.version));
    events.dedup_by_key(|decl| (decl.event_type, decl.version));
    events
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services: Vec<_> = self.services.iter().map(|service| &*service.name).collect();
        f.debug_struct("Platform")
            .field("name", &self.name)
            .field("services", &services)
            .finish()
    }
}
