//! A call as a piece of work: its context, its transaction, its end.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tower::{Service, ServiceExt};
use trunkline_call::grpc::status;
use trunkline_call::server::is_grpc;
use trunkline_call::{Body, problem};
use trunkline_core::{Context, Error, Result};

use super::methods::Method;
use super::{Server, idempotent};
use crate::Cx;
use crate::runtime::Runtime;

/// One method, where its calls end.
#[derive(Clone)]
pub(super) struct Work(Arc<End>);

pub(super) struct End {
    runtime: Arc<Runtime>,
    server: Server,
    pub(super) method: Method,
}

impl Work {
    pub(super) fn new(runtime: Arc<Runtime>, server: Server, method: Method) -> Self {
        Self(Arc::new(End {
            runtime,
            server,
            method,
        }))
    }
}

impl Service<Request<Body>> for Work {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let end = self.0.clone();
        Box::pin(async move { Ok(end.answer(request).await) })
    }
}

impl End {
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        if !is_grpc(request.headers()) {
            let kind = request.headers().get(CONTENT_TYPE);
            let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or("none");
            let text = "expected a request of content-type application/grpc";
            let error = Error::invalid("content_type_unsupported", text).with("found", kind);
            return problem::response(&error, None);
        }
        let context = request.extensions().get::<Context>().cloned();
        let context = context.unwrap_or_else(|| Context::root(&self.runtime.env));
        let cx = Cx::new(self.runtime.clone(), context);
        if self.method.is_unary()
            && let Some(key) = idempotent::key_of(request.headers())
        {
            let done = idempotent::run(&cx, self, key, request).await;
            return done.unwrap_or_else(|error| status(error).into_http());
        }
        let response = self.call(&cx, request).await;
        if has_failed(response.headers()) {
            cx.undo().await;
            return response;
        }
        if let Err(error) = cx.finish(None).await {
            cx.undo().await;
            return status(error).into_http();
        }
        if !self.method.answers_in_a_stream {
            return response;
        }
        response.map(|inner| Body::new(Stream::new(inner, cx)))
    }

    pub(super) async fn call(&self, cx: &Cx, mut request: Request<Body>) -> Response<Body> {
        request.extensions_mut().insert(cx.clone());
        match self.server.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Whether headers or trailers tell of a status other than `OK`.
pub(super) fn has_failed(headers: &HeaderMap) -> bool {
    headers.get("grpc-status").is_some_and(|code| code != "0")
}

/// A stream of answers; what it did takes effect before its status says so.
struct Stream {
    inner: Body,
    cx: Cx,
    ending: Option<BoxFuture<'static, HeaderMap>>,
    over: bool,
}

impl Stream {
    fn new(inner: Body, cx: Cx) -> Self {
        Self {
            inner,
            cx,
            ending: None,
            over: false,
        }
    }
}

/// Settles the work, and gives the trailers that tell how that went.
async fn settle(cx: Cx, trailers: HeaderMap) -> HeaderMap {
    if has_failed(&trailers) {
        cx.undo().await;
        return trailers;
    }
    let Err(error) = cx.finish(None).await else {
        return trailers;
    };
    cx.undo().await;
    let mut told = HeaderMap::new();
    match status(error).add_header(&mut told) {
        Ok(()) => told,
        // It can't be written: any trailers but those of success.
        Err(_) => HeaderMap::new(),
    }
}

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.ending.is_none() {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_trailers() {
                    Ok(trailers) => {
                        let ending = settle(self.cx.clone(), trailers);
                        self.ending = Some(Box::pin(ending));
                    }
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                // Without a status nothing takes effect.
                other => {
                    self.over = true;
                    return Poll::Ready(other);
                }
            }
        }
        let Some(ending) = self.ending.as_mut() else {
            return Poll::Ready(None);
        };
        let trailers = ready!(ending.as_mut().poll(cx));
        self.over = true;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }
}
