//! Who calls: what a request says of it.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response};
use trunkline_core::{ByteString, Result};

use super::{Around, Next, tower_layer};
use crate::Body;

/// Proves to a target who calls it: puts a token on each request.
pub trait Identity: Send + Sync + 'static {
    /// Writes the proof of one attempt of a call into its headers.
    ///
    /// # Errors
    /// Whatever keeps it from proving anything; the call then ends with that.
    fn prove<'a>(
        &'a self,
        call: Outgoing<'a>,
        headers: &'a mut HeaderMap,
    ) -> BoxFuture<'a, Result<()>>;
}

/// What a proof may be about.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Outgoing<'a> {
    /// The service that calls.
    pub caller: &'a ByteString,
    /// The service that is called.
    pub target: &'a ByteString,
    /// The request's method.
    pub method: &'a Method,
    /// The request's path: for gRPC its method.
    pub path: &'a str,
}

/// Puts the proof of an [`Identity`] on each attempt.
#[derive(Clone)]
pub struct Identify {
    identity: Arc<dyn Identity>,
    caller: ByteString,
    target: ByteString,
}

impl Identify {
    /// Proves to `target` that `caller` calls.
    pub fn new(
        identity: Arc<dyn Identity>,
        caller: impl Into<ByteString>,
        target: impl Into<ByteString>,
    ) -> Self {
        Self {
            identity,
            caller: caller.into(),
            target: target.into(),
        }
    }
}

tower_layer!(Identify);

impl Around for Identify {
    async fn around<N: Next>(&self, request: Request<Body>, next: &N) -> Result<Response<Body>> {
        let (mut parts, body) = request.into_parts();
        let call = Outgoing {
            caller: &self.caller,
            target: &self.target,
            method: &parts.method,
            path: parts.uri.path(),
        };
        self.identity.prove(call, &mut parts.headers).await?;
        next.call(Request::from_parts(parts, body)).await
    }
}

impl fmt::Debug for Identify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identify({} -> {})", self.caller, self.target)
    }
}

#[cfg(test)]
mod tests {
    use trunkline_core::Error;

    use super::super::testing::{Script, get, ok};
    use super::*;

    struct Token(bool);

    impl Identity for Token {
        fn prove<'a>(
            &'a self,
            call: Outgoing<'a>,
            headers: &'a mut HeaderMap,
        ) -> BoxFuture<'a, Result<()>> {
            Box::pin(async move {
                if !self.0 {
                    return Err(Error::unavailable("token_missing", "there is no token"));
                }
                let said = format!(
                    "{}>{} {} {}",
                    call.caller, call.target, call.method, call.path
                );
                headers.insert("authorization", said.parse().unwrap());
                Ok(())
            })
        }
    }

    #[tokio::test]
    async fn a_proof_is_on_each_request_and_without_one_nothing_is_sent() {
        let script = Script::new([ok()]);
        let layer = Identify::new(Arc::new(Token(true)), "order", "stock");
        layer.around(get("/items?a=1"), &script).await.unwrap();
        let proof = &script.seen()[0].headers["authorization"];
        assert_eq!(proof, "order>stock GET /items");
        let layer = Identify::new(Arc::new(Token(false)), "order", "stock");
        let error = layer.around(get("/"), &script).await.unwrap_err();
        assert_eq!(error.code(), "token_missing");
        assert_eq!(script.calls(), 1);
    }
}
