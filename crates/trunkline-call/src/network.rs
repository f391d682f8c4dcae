//! Where services are.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use http::uri::Scheme;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use trunkline_core::{ByteString, Env, Error, Result};
use trunkline_telemetry::Telemetry;

use crate::Channel;
use crate::balance::{Balance, Pool};
use crate::connect::Wires;
use crate::discovery::{Discovery, Instance, keeper};
use crate::line::Lines;

/// How a service's answers look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Responses {
    /// The body is the answer.
    #[default]
    Plain,
    /// The body is `{"data": answer}`.
    Data,
}

/// Where each service is: in this process, at an address, or at those that are found. Cheap to clone; a change is seen by the next call of
/// every channel.
#[derive(Clone)]
pub struct Network(Arc<Inner>);

struct Inner {
    table: ArcSwap<HashMap<ByteString, Arc<Target>>>,
    wires: Wires,
    telemetry: Telemetry,
    env: Env,
    lines: Lines,
}

/// One service's place.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) place: Place,
    pub(crate) responses: Responses,
}

#[derive(Clone)]
pub(crate) enum Place {
    Local(Router),
    Remote {
        pool: Arc<Pool>,
        /// It is somebody else's.
        outside: bool,
        /// Keeps the pool at what is found, as long as the place is in the table or in a call.
        _keeper: Option<Arc<Mutex<JoinSet<()>>>>,
    },
}

/// Where a service is that does not run in this process, as [`Network::places`] tells it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Remote {
    /// The service.
    pub service: ByteString,
    /// How many of its instances are known.
    pub instances: usize,
    /// How many of them a caller leaves out, because its breakers for them are open.
    pub left_out: usize,
    /// What is wrong with learning of changes, if something is. The instances that were known last are called
    /// meanwhile.
    pub trouble: Option<String>,
}

impl Network {
    /// A network without services.
    pub fn new(telemetry: Telemetry, env: Env) -> Self {
        Self(Arc::new(Inner {
            table: ArcSwap::default(),
            wires: Wires::new(),
            telemetry,
            env,
            lines: Lines::default(),
        }))
    }

    /// Puts a service into this process.
    pub fn mount(&self, service: impl Into<ByteString>, router: Router, responses: Responses) {
        let target = Target {
            place: Place::Local(router),
            responses,
        };
        self.put(service.into(), Some(target));
    }

    /// Says at which address a service is: `http://host:port`, or `https://host:port` once
    /// the network was told how such connections are made.
    ///
    /// # Errors
    /// `InvalidInput` for anything else.
    pub fn remote(
        &self,
        service: impl Into<ByteString>,
        url: &str,
        responses: Responses,
    ) -> Result<()> {
        let service = service.into();
        let place = self.remote_at(&service, url, false)?;
        self.put(service, Some(Target { place, responses }));
        Ok(())
    }

    /// Says at which address something outside the platform is: `http://host:port`. It is told of the trace and the
    /// flow, and not who the user is or what services say among themselves.
    ///
    /// # Errors
    /// `InvalidInput` for anything else.
    pub fn outside(&self, name: impl Into<ByteString>, url: &str) -> Result<()> {
        let name = name.into();
        let target = Target {
            place: self.remote_at(&name, url, true)?,
            responses: Responses::Plain,
        };
        self.put(name, Some(target));
        Ok(())
    }

    /// Says who knows where the instances of a service are, and how calls are spread over them. It is watched from
    /// now on, until the service is put elsewhere or the network is dropped. The first calls wait for the first list.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn discover(
        &self,
        service: impl Into<ByteString>,
        discovery: Arc<dyn Discovery>,
        balance: Balance,
        responses: Responses,
    ) {
        let (service, env) = (service.into(), self.0.env.clone());
        let pool = Arc::new(Pool::new(service.clone(), balance, env.clone()));
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper::keep(pool.clone(), discovery, env));
        let place = Place::Remote {
            pool,
            outside: false,
            _keeper: Some(Arc::new(Mutex::new(tasks))),
        };
        self.put(service, Some(Target { place, responses }));
    }

    /// The services that do not run in this process, sorted, and what is known of their instances.
    pub fn places(&self) -> Vec<Remote> {
        let table = self.0.table.load();
        let remote = table.iter().filter_map(|(service, target)| {
            let Place::Remote { pool, .. } = &target.place else {
                return None;
            };
            Some(Remote {
                service: service.clone(),
                instances: pool.members().len(),
                left_out: pool.left_out(),
                trouble: pool.trouble(),
            })
        });
        let mut places: Vec<_> = remote.collect();
        places.sort_by(|a, b| a.service.cmp(&b.service));
        places
    }

    /// The instances of a service that does not run in this process.
    pub fn pool(&self, service: &str) -> Option<Arc<Pool>> {
        match &self.0.table.load().get(service)?.place {
            Place::Remote { pool, .. } => Some(pool.clone()),
            Place::Local(_) => None,
        }
    }

    /// Says how connections to `https://` addresses are made from now on. Those that are open stay. Every service of the
    /// platform that runs elsewhere is then reached so, also where its address says `http://`.
    #[cfg(feature = "tls")]
    pub fn set_tls(&self, tls: crate::TlsClient) {
        self.0.wires.set_tls(tls);
    }

    /// Takes a service off.
    pub fn unmount(&self, service: &ByteString) {
        self.put(service.clone(), None);
    }

    /// A channel on which `caller` calls `target`; where that is, is looked up at each call.
    pub fn channel(&self, caller: impl Into<ByteString>, target: impl Into<ByteString>) -> Channel {
        let line = self.0.lines.line(self, caller.into(), target.into());
        Channel::new(self.clone(), line)
    }

    pub(crate) fn find(&self, service: &ByteString) -> Option<Arc<Target>> {
        self.0.table.load().get(service).cloned()
    }

    pub(crate) fn responses(&self, service: &ByteString) -> Option<Responses> {
        Some(self.0.table.load().get(service)?.responses)
    }

    pub(crate) fn lines(&self) -> &Lines {
        &self.0.lines
    }

    pub(crate) fn wires(&self) -> &Wires {
        &self.0.wires
    }

    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.0.telemetry
    }

    pub(crate) fn env(&self) -> &Env {
        &self.0.env
    }

    fn remote_at(&self, service: &ByteString, url: &str, outside: bool) -> Result<Place> {
        let instance = Instance::from_url(url)?;
        // Who is outside has no certificate of the platform.
        if instance.scheme == Scheme::HTTPS && (outside || !self.0.wires.is_secured()) {
            let message = "expected an address such as http://127.0.0.1:3002; https:// needs certificates of the platform";
            return Err(Error::invalid("address_invalid", message).with("address", url));
        }
        let pool = Pool::new(service.clone(), Balance::default(), self.0.env.clone());
        pool.update(vec![instance]);
        Ok(Place::Remote {
            pool: Arc::new(pool),
            outside,
            _keeper: None,
        })
    }

    fn put(&self, service: ByteString, target: Option<Target>) {
        let target = target.map(Arc::new);
        self.0.table.rcu(|table| {
            let mut table = HashMap::clone(table);
            match &target {
                Some(target) => table.insert(service.clone(), target.clone()),
                None => table.remove(&service),
            };
            table
        });
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.0.table.load();
        f.debug_struct("Network")
            .field("services", &table.keys().collect::<Vec<_>>())
            .finish()
    }
}
