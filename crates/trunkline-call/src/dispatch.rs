//! The end of a channel's stack: into a router of this process, or onto a connection.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use tower::Service;
use trunkline_core::{Error, Result};

use crate::balance::{Ask, Avoid, Held, Pool, Served};
use crate::layer::plan::Plan;
use crate::layer::{Next, Outcome};
use crate::line::Line;
use crate::network::Place;
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
                request.extensions_mut().clear();
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
        let (scheme, authority) = (instance.scheme().clone(), instance.authority().clone());
        *request.uri_mut() = absolute(request.uri(), scheme, authority)?;
        match self.network.wires().send(&self.line.target, request).await {
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

fn absolute(uri: &Uri, scheme: Scheme, authority: Authority) -> Result<Uri> {
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
