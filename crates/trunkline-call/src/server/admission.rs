//! Who may come in.

use std::fmt;

use futures::future::BoxFuture;
use http::HeaderMap;
use trunkline_core::{ByteString, Result};

use super::Peer;

/// Decides who may use what of a service: asked once for each request, before its handler.
///
/// # Errors
/// An error is the answer: a problem, or for gRPC a status.
pub trait Admission: Send + Sync + 'static {
    /// A service of this process calls. Nothing proves it, and nobody can pretend it: the channel says so, not the
    /// request. It is on the way of every such call, so it does not wait.
    ///
    /// # Errors
    /// Why not.
    fn admit_caller(&self, caller: &ByteString, call: &Incoming<'_>) -> Result<()>;

    /// Somebody calls over the network.
    ///
    /// # Errors
    /// Why not.
    fn admit_stranger<'a>(&'a self, call: Incoming<'a>) -> BoxFuture<'a, Result<()>>;
}

/// What a decision may be about.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Incoming<'a> {
    /// What is asked for: `METHOD /path/{of}/the/route`, for gRPC `package.Service/Method`; `unmatched` where the service
    /// has no such route.
    pub operation: &'a str,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// Who proved to be at the other end of the connection, over TLS.
    pub peer: Option<&'a Peer>,
    /// The flow that the call belongs to.
    pub correlation_id: &'a str,
}

/// The service of this process that sent a request, among the request's extensions. Only a channel puts it there.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) ByteString);

impl fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The headers hold tokens.
        f.debug_struct("Incoming")
            .field("operation", &self.operation)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
