//! Where services are.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use http::uri::{Authority, Scheme};
use trunkline_core::{ByteString, Env, Error, Result};
use trunkline_telemetry::Telemetry;

use crate::Channel;
use crate::connect::Wires;

/// How a service's answers look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Responses {
    /// The body is the answer.
    #[default]
    Plain,
    /// The body is `{"data": answer}`.
    Data,
}

/// Where each service is: in this process or at an address. Cheap to clone; a change is seen by the next call of
/// every channel.
#[derive(Clone)]
pub struct Network(Arc<Inner>);

struct Inner {
    table: ArcSwap<HashMap<ByteString, Target>>,
    wires: Wires,
    telemetry: Telemetry,
    env: Env,
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
        scheme: Scheme,
        authority: Authority,
        /// It is somebody else's.
        outside: bool,
    },
}

impl Network {
    /// A network without services.
    pub fn new(telemetry: Telemetry, env: Env) -> Self {
        Self(Arc::new(Inner {
            table: ArcSwap::default(),
            wires: Wires::new(),
            telemetry,
            env,
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
        let place = remote(url, false, self.0.wires.is_secured())?;
        self.put(service.into(), Some(Target { place, responses }));
        Ok(())
    }

    /// Says at which address something outside the platform is: `http://host:port`. It is told of the trace and the
    /// flow, and not who the user is or what services say among themselves.
    ///
    /// # Errors
    /// `InvalidInput` for anything else.
    pub fn outside(&self, name: impl Into<ByteString>, url: &str) -> Result<()> {
        let target = Target {
            place: remote(url, true, false)?,
            responses: Responses::Plain,
        };
        self.put(name.into(), Some(target));
        Ok(())
    }

    /// Says how connections to `https://` addresses are made from now on. Those that are open stay.
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
        Channel::new(self.clone(), caller.into(), target.into())
    }

    pub(crate) fn find(&self, service: &ByteString) -> Option<Target> {
        self.0.table.load().get(service).cloned()
    }

    pub(crate) fn responses(&self, service: &ByteString) -> Option<Responses> {
        Some(self.0.table.load().get(service)?.responses)
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

    fn put(&self, service: ByteString, target: Option<Target>) {
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

fn remote(url: &str, outside: bool, secured: bool) -> Result<Place> {
    let bad = || {
        Error::invalid(
            "address_invalid",
            "expected an address such as http://127.0.0.1:3002",
        )
        .with("address", url)
    };
    let uri: http::Uri = url.parse().map_err(|_| bad())?;
    let parts = uri.into_parts();
    let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
        return Err(bad());
    };
    // Who is outside has no certificate of the platform.
    let known = scheme == Scheme::HTTP || (scheme == Scheme::HTTPS && secured);
    if !known || parts.path_and_query.is_some_and(|path| path != "/") {
        return Err(bad());
    }
    Ok(Place::Remote {
        scheme,
        authority,
        outside,
    })
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.0.table.load();
        f.debug_struct("Network")
            .field("services", &table.keys().collect::<Vec<_>>())
            .finish()
    }
}
