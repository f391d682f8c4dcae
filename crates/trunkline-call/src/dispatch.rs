//! The end of a channel's stack: into a router of this process, or onto a connection.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use tower::Service;
use trunkline_core::{ByteString, Error, Result};

use crate::network::Place;
use crate::server::is_grpc;
use crate::{Body, Network, headers};

/// Sends a request to where its target is.
pub(crate) async fn dispatch(
    network: &Network,
    target: &ByteString,
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
            let call = AssertUnwindSafe(router.call(request)).catch_unwind();
            match call.await {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(never)) => match never {},
                Err(_) => Err(Error::internal("the service panicked")),
            }
        }
        Place::Remote {
            scheme,
            authority,
            outside,
        } => {
            if is_grpc(request.headers()) {
                headers::say_timeout(request.headers_mut());
            }
            if outside {
                headers::strip_inner(request.headers_mut());
            }
            *request.uri_mut() = absolute(request.uri(), scheme, authority)?;
            network.wires().send(target, request).await
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
