//! The end of a channel's stack: into a router of this process, or onto a connection.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use tokio::time::Instant;
use tower::Service;
use trunkline_core::{ByteString, Error, Result};

use crate::balance::{Ask, Avoid, Held, Member, Pool, Served};
use crate::network::Place;
use crate::server::Caller;
use crate::{Body, Network, headers};

/// Sends a request to where its target is.
pub(crate) async fn dispatch(
    network: &Network,
    (caller, target): (&ByteString, &ByteString),
    mut request: Request<Body>,
) -> Result<Response<Body>> {
    let Some(found) = network.find(target) else {
        return Err(Error::unavailable(
            "service_unreachable",
            "the service runs neither in this process nor at a known address",
        ));
    };
    match found.place {
        Place::Local(mut router) => {
            request.extensions_mut().clear();
            // What a certificate says on a wire.
            request.extensions_mut().insert(Caller(caller.clone()));
            let call = AssertUnwindSafe(router.call(request)).catch_unwind();
            match call.await {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(never)) => match never {},
                Err(_) => Err(Error::internal("the service panicked")),
            }
        }
        Place::Remote { pool, outside, .. } => {
            let given_up = given_up(&request);
            pool.ready().await;
            let mut held = choose(&pool, &request)?.until(given_up);
            let instance = held.member().clone();
            if outside {
                headers::strip_inner(request.headers_mut());
            }
            // Whatever a registry says: between services of a secured network nothing goes in the clear.
            let secured = !outside && network.wires().is_secured();
            *request.uri_mut() = absolute(request.uri(), address(&instance, secured)?)?;
            match network.wires().send((caller, target), request).await {
                Ok(response) => {
                    let mut response = held.answered(response);
                    response.extensions_mut().insert(Served(instance));
                    Ok(response)
                }
                Err(error) => {
                    held.tell(true);
                    Err(error.with("instance", instance.authority()))
                }
            }
        }
    }
}

/// The instance that gets a request, held until the answer's body has ended.
fn choose(pool: &Arc<Pool>, request: &Request<Body>) -> Result<Held> {
    let avoid = request.extensions().get::<Avoid>();
    let held = pool.choose(&Ask {
        key: pool.key_of(request),
        avoid,
        admits: None,
    })?;
    if let Some(avoid) = avoid {
        avoid.add(held.member().authority());
    }
    Ok(held)
}

/// When whoever waits gives up. A little sooner: the time until here has gone by, and who waits is asleep by timers.
fn given_up(request: &Request<Body>) -> Option<Instant> {
    let left = headers::left(request.headers())?;
    Instant::now().checked_add(left - left / 16)
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
