//! Requests of gRPC: failures are statuses, and a call lasts until its answer's last message.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, Sleep};
use tonic::{Code, Status};
use tower::Service;
use trunkline_core::{Context, Error, ErrorKind, report};
use trunkline_telemetry::{Scope, Span};

use super::meters::Meters;
use super::{Answering, Limits, is_grpc, panicked, work};
use crate::grpc::{encode, is_failure};
use crate::guard::deadline_exceeded;
use crate::{Body, headers, problem};

/// The longest that a call may last, whatever its caller says.
const LASTS_MAX: Duration = Duration::from_secs(3_600);

/// How long the answer may take to begin, and the call to end. A caller of gRPC says itself how long it waits; one who
/// says nothing gets the usual time for the beginning.
pub(super) fn spans(asked: Option<Duration>, limits: &Limits) -> (Duration, Duration) {
    let lasts = asked.unwrap_or(LASTS_MAX).min(LASTS_MAX);
    (asked.map_or(limits.timeout, |_| lasts), lasts)
}

impl Answering {
    /// The answer to a request of gRPC, begun. The span and the meters are of the whole call.
    pub(super) async fn run_grpc<S>(
        mut self,
        mut inner: S,
        request: Request<Body>,
        lasts: Duration,
    ) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let meters = self.meters.take();
        if let Some(meters) = meters.as_ref().filter(|_| self.span.is_recorded()) {
            self.span.rename(meters.operation().to_owned());
        }
        let operation = meters.as_ref().map(|meters| method(meters.operation()));
        let asked = (request.headers(), request.extensions());
        if let Err(refused) = self.admit(asked, operation).await {
            return self.refuse(&refused, meters);
        }
        let answer = work(&mut inner, request, self.deadline).await;
        let mut response = match answer {
            Ok(response) if is_grpc(response.headers()) => response,
            Ok(response) => refusal(&untold(response)),
            Err(error) => {
                tracing::error!(code = error.code(), error = %report(&error), "failed");
                refusal(&error)
            }
        };
        if let Some(id) = &self.context.request_id {
            headers::put(response.headers_mut(), headers::REQUEST_ID, id);
        }
        let scope = Scope::new(&self.shared.service, &self.context);
        let call = Call {
            span: self.span,
            meters,
            context: self.context,
            began: self.began,
        };
        let said = response.extensions_mut().remove::<Status>();
        if response.headers().contains_key(STATUS) {
            call.end(response.headers(), said.as_ref());
            return response.map(|_| Body::empty());
        }
        response.map(|inner| {
            Body::new(Answer {
                inner,
                scope,
                deadline: self.began + lasts,
                timer: None,
                call: Some(call),
            })
        })
    }
}

const STATUS: &str = "grpc-status";

impl Answering {
    /// The answer to whoever may not come in.
    fn refuse(self, refused: &Error, meters: Option<Arc<Meters>>) -> Response<Body> {
        let mut response = refusal(refused);
        if let Some(id) = &self.context.request_id {
            headers::put(response.headers_mut(), headers::REQUEST_ID, id);
        }
        let call = Call {
            span: self.span,
            meters,
            context: self.context,
            began: self.began,
        };
        call.end(response.headers(), None);
        response
    }
}

/// A route's operation as gRPC names it: `package.Service/Method`.
fn method(operation: &str) -> &str {
    operation.strip_prefix("POST /").unwrap_or(operation)
}

/// An error as an answer without messages.
fn refusal(error: &Error) -> Response<Body> {
    encode(error).into_http()
}

/// The error of an answer that does not speak gRPC, made by what stands before the service.
fn untold(response: Response<Body>) -> Error {
    let (parts, body) = response.into_parts();
    // A problem is in memory: whoever has to wait for its body gets none.
    let body = body.collect().now_or_never().and_then(Result::ok);
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let error = problem::parse(parts.status, &parts.headers, &body);
    let is_route = matches!(error.code(), "route_unknown" | "method_not_allowed");
    if is_route || parts.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        let text = "the service has no such method of gRPC";
        return Error::new(ErrorKind::Unsupported, "method_unknown", text);
    }
    error
}

/// A call until its end.
struct Call {
    span: Span,
    meters: Option<Arc<Meters>>,
    context: Context,
    began: Instant,
}

impl Call {
    /// Notes the end that headers or trailers tell of. `said` is the status as the handler made it, if it is at hand.
    fn end(mut self, headers: &HeaderMap, said: Option<&Status>) {
        let code = headers.get(STATUS).map(HeaderValue::as_bytes);
        let code = code.map_or(Code::Unknown, Code::from_bytes);
        if is_failure(code) {
            let cause = said.and_then(std::error::Error::source);
            let told =
                || Status::from_header_map(headers).map(|status| status.message().to_owned());
            let reason = cause.map(|cause| report(cause).to_string());
            let reason = reason.or_else(told).unwrap_or_default();
            self.span.fail_with(reason);
        }
        self.note(code);
    }

    fn note(&self, code: Code) {
        if let Some(meters) = &self.meters {
            meters.record(&self.context, as_http(code), self.began.elapsed());
        }
    }
}

/// The status of HTTP that counts the same.
fn as_http(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        code if is_failure(code) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// An answer's messages and trailers, under the call's deadline. One that panics, breaks off or takes too long ends with
/// a status that says so; one that is dropped was cancelled.
struct Answer {
    inner: Body,
    scope: Scope,
    deadline: Instant,
    // Made only when the body makes us wait.
    timer: Option<Pin<Box<Sleep>>>,
    /// None once it has ended.
    call: Option<Call>,
}

type Polled = Poll<Option<Result<Frame<Bytes>, axum::Error>>>;

impl Answer {
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Polled {
        let inner = &mut self.inner;
        let poll = AssertUnwindSafe(|| Pin::new(inner).poll_frame(cx));
        match catch_unwind(poll) {
            Ok(Poll::Ready(Some(Ok(frame)))) => {
                if let Some(trailers) = frame.trailers_ref()
                    && let Some(call) = self.call.take()
                {
                    call.end(trailers, None);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Ok(Poll::Ready(Some(Err(error)))) => {
                self.end(&crate::client::broken(error.into_inner()))
            }
            Ok(Poll::Ready(None)) => {
                self.end(&Error::internal("the answer ended without a status"))
            }
            Ok(Poll::Pending) => {
                let deadline = self.deadline;
                let sleep = || Box::pin(tokio::time::sleep_until(deadline));
                std::task::ready!(self.timer.get_or_insert_with(sleep).as_mut().poll(cx));
                self.end(&deadline_exceeded())
            }
            Err(panic) => self.end(&panicked("the answer's body panicked", &*panic)),
        }
    }

    fn end(&mut self, error: &Error) -> Polled {
        tracing::error!(code = error.code(), error = %report(error), "an answer broke off");
        // Whatever it was still waiting for is let go now.
        self.inner = Body::empty();
        let mut trailers = HeaderMap::new();
        if let Err(status) = encode(error).add_header(&mut trailers) {
            return Poll::Ready(Some(Err(axum::Error::new(status))));
        }
        if let Some(mut call) = self.call.take() {
            call.span.fail(error);
            call.note(encode(error).code());
        }
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Polled {
        if self.call.is_none() {
            return Poll::Ready(None);
        }
        let scope = self.scope.clone();
        scope.enter(|| self.poll(cx))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }

    fn is_end_stream(&self) -> bool {
        self.call.is_none()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            call.note(Code::Cancelled);
        }
    }
}
