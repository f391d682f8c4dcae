//! Services that answer gRPC: a generated server is mounted beside the routes, with what every handler has.

mod health;
mod idempotent;
mod methods;
mod work;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::routing::post_service;
use http::{Request, Response};
use tonic::Status;
use tonic::server::NamedService;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;
use trunkline_call::Body;
use trunkline_call::grpc::status;
use trunkline_core::{Error, Result};
use trunkline_telemetry::Health;

use crate::runtime::Runtime;
use crate::{Cx, Service};

use methods::Method;
use work::Work;

/// A generated server that takes and gives the bodies of this crate.
pub(crate) type Server = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// What every service with gRPC answers by itself begins so.
const RESERVED: [&str; 2] = ["grpc.health.", "grpc.reflection."];

/// A service of gRPC, as its author gave it.
pub(crate) struct Declared {
    pub(crate) name: &'static str,
    descriptors: &'static [u8],
    server: Server,
}

impl Service {
    /// Answers a generated server's methods; `descriptors` is the encoded `FileDescriptorSet` that its code was generated
    /// from. Health and reflection come with it. Handlers get their [`Cx`] by [`Cx::of`] or [`answer`].
    ///
    /// # Guarantees
    /// The transaction of a call commits before its answer is sent: for one answer, when the handler returns `Ok`. What
    /// a stream of answers does while it runs commits before its status is sent. A status other than `OK`, a panic, a
    /// deadline and a client that goes away undo it. A call of one question and one answer with an `idempotency-key` in
    /// its metadata has its effect once, and gets the same answer again.
    #[must_use]
    pub fn grpc<S>(mut self, server: S, descriptors: &'static [u8]) -> Self
    where
        S: tower::Service<
                Request<Body>,
                Response = Response<tonic::body::Body>,
                Error = Infallible,
            > + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.grpc.push(Declared {
            name: S::NAME,
            descriptors,
            server: boxed(server),
        });
        self
    }
}

fn boxed<S>(server: S) -> Server
where
    S: tower::Service<Request<Body>, Response = Response<tonic::body::Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    BoxCloneSyncService::new(server.map_response(|response| response.map(Body::new)))
}

impl Cx {
    /// The work that a call is.
    ///
    /// # Errors
    /// `INTERNAL` for a request that did not come through [`Service::grpc`].
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        let cx = request.extensions().get::<Self>().cloned();
        cx.ok_or_else(|| {
            status(Error::internal(
                "a handler's server is mounted by `Service::grpc`",
            ))
        })
    }
}

/// Answers a call by a function that knows nothing of gRPC but its messages: an error becomes its status.
///
/// # Errors
/// What the function says.
pub async fn answer<M, R, F, W>(
    request: tonic::Request<M>,
    handler: F,
) -> Result<tonic::Response<R>, Status>
where
    F: FnOnce(Cx, M) -> W,
    W: Future<Output = Result<R>>,
{
    let cx = Cx::of(&request)?;
    let done = handler(cx, request.into_inner()).await;
    done.map(tonic::Response::new).map_err(status)
}

/// Checks that what is declared can be mounted.
pub(crate) fn check(service: &Service) -> Result<()> {
    let mut names = BTreeSet::new();
    for declared in &service.grpc {
        let bad = |text: &'static str| {
            Error::invalid("topology_invalid", text)
                .with("service", &service.name)
                .with("grpc", declared.name)
        };
        if RESERVED
            .iter()
            .any(|known| declared.name.starts_with(known))
        {
            return Err(bad(
                "health and reflection are answered for every service already",
            ));
        }
        if !names.insert(declared.name) {
            return Err(bad("a service of gRPC is mounted twice"));
        }
        declared.methods()?;
    }
    Ok(())
}

impl Declared {
    pub(crate) fn methods(&self) -> Result<Vec<Method>> {
        methods::of(self.descriptors, self.name)
    }
}

/// Adds what is declared to a service's routes, with health and reflection if that is anything.
pub(crate) fn mount(
    mut router: Router,
    service: &Service,
    runtime: &Arc<Runtime>,
    health: Health,
) -> Result<Router> {
    if service.grpc.is_empty() {
        return Ok(router);
    }
    for declared in &service.grpc {
        for method in declared.methods()? {
            let path = method.path.clone();
            let work = Work::new(runtime.clone(), declared.server.clone(), method);
            router = router.route(&path, post_service(work));
        }
    }
    let names = service.grpc.iter().map(|declared| declared.name).collect();
    for (name, methods, server) in built_in(service, health::server(health, names))? {
        for method in methods {
            let route = post_service(server.clone());
            router = router.route(&format!("/{name}/{method}"), route);
        }
    }
    Ok(router)
}

type BuiltIn = (&'static str, &'static [&'static str], Server);

fn built_in(service: &Service, health: Server) -> Result<[BuiltIn; 3]> {
    let builder = || {
        let health = tonic_health::pb::FILE_DESCRIPTOR_SET;
        let all = service.grpc.iter().map(|declared| declared.descriptors);
        let builder = tonic_reflection::server::Builder::configure();
        all.chain([health]).fold(builder, |builder, set| {
            builder.register_encoded_file_descriptor_set(set)
        })
    };
    let bad = |error: tonic_reflection::server::Error| {
        let text = "the descriptors of a service of gRPC don't fit together";
        Error::invalid("topology_invalid", text)
            .with("service", &service.name)
            .with_source(error)
    };
    let reflection = &["ServerReflectionInfo"];
    Ok([
        ("grpc.health.v1.Health", &["Check", "Watch"], health),
        (
            "grpc.reflection.v1.ServerReflection",
            reflection,
            boxed(builder().build_v1().map_err(bad)?),
        ),
        (
            "grpc.reflection.v1alpha.ServerReflection",
            reflection,
            boxed(builder().build_v1alpha().map_err(bad)?),
        ),
    ])
}

impl fmt::Debug for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Declared")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
