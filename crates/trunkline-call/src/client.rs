//! What handlers call other services with.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::{Either, ready};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use trunkline_core::{ByteString, Context, Error, ErrorKind, Result};

use crate::layer::Age;
use crate::{Body, CallOptions, Channel, Responses, headers, problem};

/// Room for the headers that every call has.
const HEADERS: usize = 8;

/// A longer answer is refused.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Calls one service in the context of the work at hand.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) channel: Channel,
    pub(crate) context: Context,
    pub(crate) read_only: bool,
    /// Go with every request that may change something.
    pub(crate) keys: Option<CallKeys>,
}

/// Idempotency keys for the calls of work that may be done again: the first has the key itself, the next `key:2`, and so on,
/// so that two calls of one operation are not taken for one. Clones count together.
#[derive(Debug, Clone)]
pub struct CallKeys {
    key: ByteString,
    calls: Arc<AtomicU32>,
}

impl CallKeys {
    /// Keys made of this one.
    pub fn new(key: impl Into<ByteString>) -> Self {
        Self {
            key: key.into(),
            calls: Arc::default(),
        }
    }

    pub(crate) fn next(&self) -> ByteString {
        match self.calls.fetch_add(1, Ordering::Relaxed) {
            0 => self.key.clone(),
            before => format!("{}:{}", self.key, before + 1).into(),
        }
    }
}

impl Client {
    /// A client over a channel, for work in a context.
    pub fn new(channel: Channel, context: Context) -> Self {
        Self {
            channel,
            context,
            read_only: false,
            keys: None,
        }
    }

    /// The same for work that is undone: a request that would change something is refused (`call_in_rehearsal`).
    #[must_use]
    pub fn read_only(self) -> Self {
        Self {
            read_only: true,
            ..self
        }
    }

    /// The same for work that may be done again, such as a step of a saga: each request that may change something carries
    /// the next of these idempotency keys, unless it names its own, and is tried once: who does the work again is who tries
    /// again.
    #[must_use]
    pub fn with_keys(self, keys: CallKeys) -> Self {
        Self {
            keys: Some(keys),
            ..self
        }
    }

    /// How it calls.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Reads something.
    pub fn get(&self, path: impl Into<String>) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// Adds something, or asks for something to be done.
    pub fn post(&self, path: impl Into<String>) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// Replaces something.
    pub fn put(&self, path: impl Into<String>) -> RequestBuilder {
        self.request(Method::PUT, path)
    }

    /// Changes something in part.
    pub fn patch(&self, path: impl Into<String>) -> RequestBuilder {
        self.request(Method::PATCH, path)
    }

    /// Removes something.
    pub fn delete(&self, path: impl Into<String>) -> RequestBuilder {
        self.request(Method::DELETE, path)
    }

    /// A request of any method.
    pub fn request(&self, method: Method, path: impl Into<String>) -> RequestBuilder {
        let body = if self.read_only && !method.is_safe() {
            Err(only_reads(&method, &self.channel))
        } else {
            Ok(Bytes::new())
        };
        let keys = self.keys.as_ref().filter(|_| !method.is_safe());
        let request = RequestBuilder {
            channel: self.channel.clone(),
            context: self.context.clone(),
            method,
            path: path.into(),
            headers: HeaderMap::with_capacity(HEADERS),
            body,
            options: CallOptions::default(),
        };
        match keys.map(CallKeys::next) {
            Some(key) => request.idempotency_key(&key).no_retry(),
            None => request,
        }
    }
}

fn only_reads(method: &Method, channel: &Channel) -> Error {
    let text =
        "a dry run does not ask another service to change anything, so how this ends is not known";
    Error::new(ErrorKind::Unsupported, "call_in_rehearsal", text)
        .with("method", method)
        .with("target", channel.target())
}

/// A request being put together; what was wrong with its parts is said when it is sent.
#[derive(Debug)]
pub struct RequestBuilder {
    channel: Channel,
    context: Context,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Result<Bytes>,
    options: CallOptions,
}

/// An answer, and how old it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// What was answered.
    pub value: T,
    /// Its age, if it is one that was kept; none for one that the target gave to this call.
    pub age: Option<Duration>,
    /// The target failed, and what was kept stands in for it.
    pub is_fallback: bool,
}

impl RequestBuilder {
    /// Adds query parameters from a struct or pairs.
    #[must_use]
    pub fn query(mut self, query: &impl Serialize) -> Self {
        match serde_urlencoded::to_string(query) {
            Ok(query) if query.is_empty() => {}
            Ok(query) => {
                self.path
                    .push(if self.path.contains('?') { '&' } else { '?' });
                self.path.push_str(&query);
            }
            Err(error) => self.fail("query_invalid", "the query can't be written", error),
        }
        self
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(mut self, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(bytes) => {
                self.headers
                    .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                self.body = self.body.map(|_| bytes.into());
            }
            Err(error) => self.fail("json_invalid", "the body can't be written as JSON", error),
        }
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => {
                self.headers.insert(name, value);
            }
            Err(error) => self.fail("header_invalid", "the header can't be written", error),
        }
        self
    }

    /// Makes it safe to repeat: the target answers the same key with the same answer.
    #[must_use]
    pub fn idempotency_key(self, key: &str) -> Self {
        self.header(headers::IDEMPOTENCY_KEY, key)
    }

    /// How long it may take, whatever its policy says, if that is less than what is left.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.context = self.context.within(limit, self.channel.network().env());
        self.options.timeout = Some(limit);
        self
    }

    /// Repeating it is safe, although neither its method nor a key says so.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.options = self.options.idempotent();
        self
    }

    /// It is tried once.
    #[must_use]
    pub fn no_retry(mut self) -> Self {
        self.options = self.options.no_retry();
        self
    }

    fn fail(
        &mut self,
        code: &'static str,
        message: &'static str,
        error: impl std::error::Error + Send + Sync + 'static,
    ) {
        if self.body.is_ok() {
            self.body = Err(Error::invalid(code, message).with_source(error));
        }
    }

    /// Sends it and reads the answer.
    ///
    /// # Errors
    /// Those of the [`Channel`]; the target's own problem, with its code and whether trying again is safe;
    /// `Corrupt` for an answer that is not what `T` expects.
    pub fn send<T: DeserializeOwned>(self) -> impl Future<Output = Result<T>> + Send {
        self.send_for_answer().map(|answer| Ok(answer?.value))
    }

    /// As [`RequestBuilder::send`]; the answer tells whether it was kept, and for how long.
    ///
    /// # Errors
    /// As [`RequestBuilder::send`].
    pub fn send_for_answer<T: DeserializeOwned>(
        self,
    ) -> impl Future<Output = Result<Answer<T>>> + Send {
        let responses = self.channel.responses();
        let target = self.channel.target().clone();
        self.send_for_bytes().map(move |answer| {
            let (_, body, age) = answer?;
            let value = decode(&body, responses).map_err(|error| {
                let text = "the service's answer is not as expected";
                let invalid = Error::new(ErrorKind::Corrupt, "answer_invalid", text);
                invalid.with("target", target).with_source(error)
            })?;
            Ok(Answer {
                value,
                age: age.map(|age| age.age),
                is_fallback: age.is_some_and(|age| age.is_fallback),
            })
        })
    }

    /// Sends it; the answer has no body, or one that nobody wants.
    ///
    /// # Errors
    /// As [`RequestBuilder::send`].
    pub fn send_empty(self) -> impl Future<Output = Result<StatusCode>> + Send {
        self.send_for_bytes().map(|answer| Ok(answer?.0))
    }

    fn send_for_bytes(
        self,
    ) -> impl Future<Output = Result<(StatusCode, Bytes, Option<Age>)>> + Send {
        // Not a part of what is waited for: there is no room for it there.
        let call = self.send_raw();
        async move { whole(call.await?).await }
    }

    /// Sends it and gives the response as it comes, whatever its status.
    ///
    /// # Errors
    /// Those of the [`Channel`].
    pub fn send_raw(self) -> impl Future<Output = Result<Response<Body>>> + Send {
        let channel = self.channel.clone();
        // The whole stack is one state machine, too large to be carried about in that of every handler.
        match self.build() {
            Ok(request) => Either::Left(Box::pin(channel.run(request))),
            Err(error) => Either::Right(ready(Err(error))),
        }
    }

    fn build(self) -> Result<Request<Body>> {
        let body = self.body?;
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.path.parse().map_err(|error: http::uri::InvalidUri| {
            Error::invalid("path_invalid", "expected a path such as /api/v1/orders")
                .with("path", &self.path)
                .with_source(error)
        })?;
        *request.headers_mut() = self.headers;
        let all = request.headers_mut();
        all.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers::write(&self.context, all, self.channel.network().env());
        if self.options != CallOptions::default() {
            self.options.put(&mut request);
        }
        Ok(request)
    }
}

#[derive(serde::Deserialize)]
struct Data<T> {
    data: T,
}

fn decode<T: DeserializeOwned>(body: &[u8], responses: Responses) -> serde_json::Result<T> {
    match responses {
        Responses::Plain => serde_json::from_slice(body),
        Responses::Data => serde_json::from_slice::<Data<T>>(body).map(|body| body.data),
    }
}

/// A response with the whole of its body; an error if its status says so.
async fn whole(response: Response<Body>) -> Result<(StatusCode, Bytes, Option<Age>)> {
    let age = response.extensions().get().copied();
    let (
        http::response::Parts {
            status, headers, ..
        },
        body,
    ) = response.into_parts();
    let body = read(body, ANSWER_BYTES_MAX).await?;
    if status.is_client_error() || status.is_server_error() {
        return Err(problem::parse(status, &headers, &body));
    }
    Ok((status, body, age))
}

/// Reads a body to its end.
pub(crate) async fn read(mut body: Body, bytes_max: usize) -> Result<Bytes> {
    // The usual answer is one piece, and is not copied.
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else {
            continue;
        };
        if first.len() + all.len() + data.len() > bytes_max {
            let text = "the answer is too large";
            let error = Error::new(ErrorKind::TooLarge, "answer_too_large", text);
            return Err(error.with("bytes_max", bytes_max));
        }
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

pub(crate) fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let error = error.into();
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&*error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<Error>()
            && error.kind() == ErrorKind::DeadlineExceeded
        {
            return crate::guard::deadline_exceeded();
        }
        source = cause.source();
    }
    Error::unavailable("answer_broken", "the answer broke off")
        .with_retry(trunkline_core::Retry::Unknown)
        .with_source(error)
}
