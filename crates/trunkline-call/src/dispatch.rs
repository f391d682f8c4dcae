//! The end of a channel's stack: into a router of this process, or onto a connection.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::upgrade::OnUpgrade;
use tower::Service;
use trunkline_core::{Error, Result};

use crate::balance::{Ask, Avoid, Held, Member, Pool, Served};
use crate::layer::plan::Plan;
use crate::layer::{Next, Outcome};
use crate::line::Line;
use crate::network::Place;
use crate::server::Caller;
use crate::{Body, Network, headers};

/// How a request leaves.
pub(crate) struct Way<'a> {
    pub(crate) network: &'a Network,
    pub(crate) line: &'a Line,
    pub(crate) place: Option<&'a Place>,
    /// Whoever calls has rules of its own: rather a sick instance than none.
    pub(crate) is_bare: bool,
}

impl Next for Way<'_> {
    /// Sends a request to where its target is.
    async fn call(&self, mut request: Request<Body>) -> Result<Response<Body>> {
        let Some(place) = self.place else {
            return Err(Error::unavailable(
                "service_unreachable",
                "the service runs neither in this process nor at a known address",
            ));
        };
        match place {
            Place::Local(router) => {
                // A connection that goes on in another protocol is the service's to take.
                let upgrade = request.extensions_mut().remove::<OnUpgrade>();
                request.extensions_mut().clear();
                if let Some(upgrade) = upgrade {
                    request.extensions_mut().insert(upgrade);
                }
                // What a certificate says on a wire.
                let caller = Caller(self.line.caller.clone());
                request.extensions_mut().insert(caller);
                let call = AssertUnwindSafe(router.clone().call(request)).catch_unwind();
                match call.await {
                    Ok(Ok(response)) => Ok(response),
                    Ok(Err(never)) => match never {},
                    Err(_) => Err(Error::internal("the service panicked")),
                }
            }
            // In a box of its own: it is long, and a call in process has no room for it.
            Place::Remote { pool, outside, .. } => {
                Box::pin(self.send(request, pool, *outside)).await
            }
        }
    }
}

impl Way<'_> {
    /// Sends a request to an instance.
    async fn send(
        &self,
        mut request: Request<Body>,
        pool: &Arc<Pool>,
        is_outside: bool,
    ) -> Result<Response<Body>> {
        pool.ready().await;
        let mut held = self.choose(pool, &request)?;
        let instance = held.member().clone();
        if is_outside {
            headers::strip_inner(request.headers_mut());
        }
        // Whatever a registry says: between services of a secured network nothing goes in the clear.
        let wires = self.network.wires();
        let secured = !is_outside && wires.is_secured();
        *request.uri_mut() = absolute(request.uri(), address(&instance, secured)?)?;
        let hop = (&self.line.caller, &self.line.target);
        match wires.send(hop, request).await {
            Ok(response) => {
                let mut response = held.answered(response);
                response.extensions_mut().insert(Served(instance));
                Ok(response)
            }
            Err(error) => {
                held.told_by(Some(Outcome::of_error(&error)));
                Err(error.with("instance", instance.authority()))
            }
        }
    }

    /// The instance that gets a request, held until the answer's body has ended.
    fn choose(&self, pool: &Arc<Pool>, request: &Request<Body>) -> Result<Held> {
        let ask = Ask {
            key: pool.key_of(request),
            avoid: request.extensions().get::<Avoid>(),
            admits: None,
        };
        let plan = request.extensions().get::<Plan>();
        let times = plan.map(|plan| plan.times).unwrap_or_default();
        let breakers = self.line.breakers(pool);
        match breakers.choose(pool, &ask, times) {
            Err(error) if self.is_bare && error.code() == headers::CIRCUIT_OPEN => {
                Ok(pool.choose(&ask)?.until(times.begins_by))
            }
            chosen => chosen,
        }
    }
}

/// Where an instance is reached, and how.
fn address(instance: &Member, secured: bool) -> Result<(Scheme, Authority)> {
    let authority = instance.authority();
    if !secured || *instance.scheme() == Scheme::HTTPS {
        return Ok((instance.scheme().clone(), authority.clone()));
    }
    if authority.port().is_some() {
        return Ok((Scheme::HTTPS, authority.clone()));
    }
    // The port stays what the address said by saying none.
    let named = format!("{authority}:80").parse();
    let authority = named.map_err(|error| {
        Error::internal("a host with a port is an authority").with_source(error)
    })?;
    Ok((Scheme::HTTPS, authority))
}

fn absolute(uri: &Uri, (scheme, authority): (Scheme, Authority)) -> Result<Uri> {
    let path = uri
        .path_and_query()
        .cloned()
        .unwrap_or(PathAndQuery::from_static("/"));
    Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|error| {
            Error::invalid("path_invalid", "expected a path for the call").with_source(error)
        })
}
