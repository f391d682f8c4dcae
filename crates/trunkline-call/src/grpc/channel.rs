//! What tonic's clients call through.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::metadata::MetadataMap;
use tower::Service;
use trunkline_core::{Context, Error, ErrorKind, Result, Retry};

use super::encode;
use crate::client::{CallKeys, broken, read};
use crate::server::is_grpc;
use crate::{Body, Channel, Client, headers, problem};

/// What an answer that is none of gRPC may say of why it is none.
const PROBLEM_BYTES_MAX: usize = 16 * 1024;

/// A channel as tonic's generated clients take it: `StockClient::new(channel.grpc())`. Cheap to clone.
///
/// # Guarantees
/// Those of the [`Channel`], for each of the four kinds of streaming. The deadline is the shortest of the work's own, the
/// request's `set_timeout` and, where neither is there, the channel's; it holds until the answer's last message. A call
/// that is dropped is cancelled at the other end. An answer that ends without a status is an error.
///
/// # Errors
/// A `Status` with the details of the channel's error; [`super::error()`] makes that error of it again.
#[derive(Debug, Clone)]
pub struct GrpcChannel {
    channel: Channel,
    context: Option<Context>,
    read_only: bool,
    /// Go with every call, unless that names its own.
    keys: Option<CallKeys>,
}

impl Channel {
    /// The same for tonic's clients.
    pub fn grpc(&self) -> GrpcChannel {
        GrpcChannel {
            channel: self.clone(),
            context: None,
            read_only: false,
            keys: None,
        }
    }
}

impl Client {
    /// The same for tonic's clients: each call is made in the context of the work at hand. In work that is undone every
    /// call is refused (`call_in_rehearsal`).
    pub fn grpc(&self) -> GrpcChannel {
        GrpcChannel {
            channel: self.channel.clone(),
            context: Some(self.context.clone()),
            read_only: self.read_only,
            keys: self.keys.clone(),
        }
    }
}

impl GrpcChannel {
    fn prepare(&self, request: Request<tonic::body::Body>) -> Result<Request<Body>> {
        if self.read_only {
            let text = "a dry run does not call by gRPC, so how this ends is not known";
            let error = Error::new(ErrorKind::Unsupported, "call_in_rehearsal", text);
            return Err(error.with("target", self.channel.target()));
        }
        let mut request = request.map(Body::new);
        let all = request.headers_mut();
        let asked = headers::left(all);
        all.remove(headers::GRPC_TIMEOUT);
        if let Some(context) = &self.context {
            all.remove(headers::DEADLINE_MS);
            headers::write(context, all, self.channel.network().env());
        }
        if let Some(keys) = &self.keys
            && !all.contains_key(headers::IDEMPOTENCY_KEY)
        {
            let key = HeaderValue::from_str(&keys.next()).map_err(|error| {
                Error::invalid("header_invalid", "the idempotency key can't be written")
                    .with_source(error)
            })?;
            all.insert(headers::IDEMPOTENCY_KEY, key);
        }
        let left = headers::left(all).into_iter().chain(asked).min();
        if let Some(left) = left {
            // A part of a millisecond is one, or the time would be up before the call began.
            let millis = left.as_nanos().div_ceil(1_000_000);
            let millis = u64::try_from(millis).unwrap_or(u64::MAX);
            all.insert(headers::DEADLINE_MS, HeaderValue::from(millis));
        }
        Ok(request)
    }
}

impl Service<Request<tonic::body::Body>> for GrpcChannel {
    type Response = Response<tonic::body::Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
        self.channel.poll_ready(cx).map_err(|error| encode(&error))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let request = match self.prepare(request) {
            Ok(request) => request,
            Err(error) => return Box::pin(async move { Err(encode(&error)) }),
        };
        let call = self.channel.call(request);
        Box::pin(async move {
            let mut response = call.await.map_err(|error| encode(&error))?;
            disarm(response.headers_mut());
            if !is_grpc(response.headers()) || response.status() != StatusCode::OK {
                return Err(encode(&no_grpc(response).await));
            }
            if response.body().is_end_stream() && !has_status(response.headers()) {
                return Err(encode(&no_status()));
            }
            Ok(response.map(Received::wrap))
        })
    }
}

/// The error of an answer by something that does not speak gRPC.
async fn no_grpc(response: Response<Body>) -> Error {
    let (parts, body) = response.into_parts();
    if parts.status.is_success() {
        let kind = parts.headers.get(http::header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or("none");
        let text = "expected an answer of gRPC";
        return Error::new(ErrorKind::Corrupt, "answer_invalid", text).with("content-type", kind);
    }
    let body = read(body, PROBLEM_BYTES_MAX).await.unwrap_or_default();
    problem::parse(parts.status, &parts.headers, &body)
}

/// An answer on its way to the client.
struct Received {
    inner: Body,
    over: bool,
}

impl Received {
    fn wrap(inner: Body) -> tonic::body::Body {
        // With nothing to come, the status is among the headers.
        if inner.is_end_stream() {
            return tonic::body::Body::empty();
        }
        tonic::body::Body::new(Self { inner, over: false })
    }

    fn end(&mut self, error: &Error) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.over = true;
        Poll::Ready(Some(Err(encode(error))))
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        match std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    disarm(trailers);
                }
                self.over = frame.trailers_ref().is_some_and(has_status);
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                let error = broken(error.into_inner());
                self.end(&error)
            }
            None => {
                let error = no_status();
                self.end(&error)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }
}

fn no_status() -> Error {
    Error::unavailable("answer_broken", "the answer ended without a status")
        .with_retry(Retry::Unknown)
}

/// Takes off details that can't be read: tonic's client panics at them.
fn disarm(headers: &mut HeaderMap) {
    const DETAILS: &str = "grpc-status-details-bin";
    let Some(details) = headers.get(DETAILS) else {
        return;
    };
    let alone = HeaderMap::from_iter([(HeaderName::from_static(DETAILS), details.clone())]);
    let alone = MetadataMap::from_headers(alone);
    if alone
        .get_bin(DETAILS)
        .is_none_or(|details| details.to_bytes().is_err())
    {
        headers.remove(DETAILS);
    }
}

fn has_status(trailers: &HeaderMap) -> bool {
    trailers.contains_key("grpc-status")
}
