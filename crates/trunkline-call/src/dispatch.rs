//! The end of a channel's stack: into a router of this process, or onto a connection.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Either, ready};
use http::uri::{Authority, Scheme};
use http::{Request, Response};
use hyper::upgrade::OnUpgrade;
use tower::Service;
use trunkline_core::{Error, Result};

use crate::balance::{Ask, Avoid, Held, Member, Pool, Served, Session};
use crate::connect::Route;
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
    fn call(
        &self,
        mut request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>>> + Send {
        match self.place {
            None => {
                let text = "the service runs neither in this process nor at a known address";
                let error = Error::unavailable("service_unreachable", text);
                Either::Right(Either::Left(ready(Err(error))))
            }
            Some(Place::Local(router)) => {
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
                Either::Left(call.map(|answer| match answer {
                    Ok(Ok(response)) => Ok(response),
                    Ok(Err(never)) => match never {},
                    Err(_) => Err(Error::internal("the service panicked")),
                }))
            }
            // In a box of its own: a call in process has no room for it.
            Some(Place::Remote { pool, outside, .. }) => {
                Either::Right(Either::Right(if pool.is_ready() {
                    self.send(request, pool, *outside)
                } else {
                    Box::pin(async move {
                        pool.ready().await;
                        self.send(request, pool, *outside).await
                    })
                }))
            }
        }
    }
}

impl Way<'_> {
    /// Sends a request to an instance.
    fn send<'b>(
        &'b self,
        mut request: Request<Body>,
        pool: &Arc<Pool>,
        is_outside: bool,
    ) -> BoxFuture<'b, Result<Response<Body>>> {
        let held = match self.choose(pool, &request) {
            Ok(held) => held,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        if is_outside {
            headers::strip_inner(request.headers_mut());
        } else if request.extensions().get::<Session>().is_some() {
            let tag = held.member().tag().clone();
            request.headers_mut().insert(headers::INSTANCE, tag);
        }
        let route = self.route(held.member(), &mut request, is_outside);
        let settle = |answer| settle(answer, held);
        match route {
            Ok(Route::Alone(pool)) => Box::pin(pool.call(request).map(settle)),
            Ok(Route::Shared(bundle)) => {
                Box::pin(async move { settle(bundle.call(request).await) })
            }
            Err(error) => Box::pin(ready(settle(Err(error)))),
        }
    }

    /// What a request goes by to an instance.
    fn route(
        &self,
        instance: &Member,
        request: &mut Request<Body>,
        is_outside: bool,
    ) -> Result<Route> {
        // Whatever a registry says: between services of a secured network nothing goes in the clear.
        let wires = self.network.wires();
        let secured = !is_outside && wires.is_secured();
        let address = address(instance, secured)?;
        let hop = (&self.line.caller, &self.line.target);
        wires.route(hop, address, request)
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
        let session = request.extensions().get::<Session>();
        let tag = session.and_then(|session| session.tag.as_ref());
        if let Some(held) = tag.and_then(|tag| pool.of_session(tag)) {
            // Nobody else has it, however its instance is.
            return Ok(held.until(times.begins_by));
        }
        let breakers = self.line.breakers(pool);
        match breakers.choose(pool, &ask, times) {
            Err(error) if self.is_bare && error.code() == headers::CIRCUIT_OPEN => {
                Ok(pool.choose(&ask)?.until(times.begins_by))
            }
            chosen => chosen,
        }
    }
}

/// Says how a call went to those who choose instances.
fn settle(answer: Result<Response<Body>>, mut held: Held) -> Result<Response<Body>> {
    let instance = held.member().clone();
    match answer {
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
