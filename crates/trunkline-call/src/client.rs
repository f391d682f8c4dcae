//! What handlers call other services with.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;
use trunkline_core::{Context, Error, ErrorKind, Result};

use crate::{Body, Channel, Responses, headers, problem};

/// Room for the headers that every call has.
const HEADERS: usize = 6;

/// A longer answer is refused.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Calls one service in the context of the work at hand.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) channel: Channel,
    pub(crate) context: Context,
    pub(crate) read_only: bool,
}

impl Client {
    /// A client over a channel, for work in a context.
    pub fn new(channel: Channel, context: Context) -> Self {
        Self {
            channel,
            context,
            read_only: false,
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
        RequestBuilder {
            channel: self.channel.clone(),
            context: self.context.clone(),
            method,
            path: path.into(),
            headers: HeaderMap::with_capacity(HEADERS),
            body,
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

    /// How long it may take, if that is less than what is left.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.context = self.context.within(limit, self.channel.network().env());
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
    pub async fn send<T: DeserializeOwned>(self) -> Result<T> {
        let responses = self.channel.responses();
        let target = self.channel.target().clone();
        let (_, body) = self.send_for_bytes().await?;
        let decoded = match responses {
            Responses::Plain => serde_json::from_slice(&body),
            Responses::Data => serde_json::from_slice::<Data<T>>(&body).map(|body| body.data),
        };
        decoded.map_err(|error| {
            Error::new(
                ErrorKind::Corrupt,
                "answer_invalid",
                "the service's answer is not as expected",
            )
            .with("target", target)
            .with_source(error)
        })
    }

    /// Sends it; the answer has no body, or one that nobody wants.
    ///
    /// # Errors
    /// As [`RequestBuilder::send`].
    pub async fn send_empty(self) -> Result<StatusCode> {
        Ok(self.send_for_bytes().await?.0)
    }

    async fn send_for_bytes(self) -> Result<(StatusCode, Bytes)> {
        let response = self.send_raw().await?;
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
        Ok((status, body))
    }

    /// Sends it and gives the response as it comes, whatever its status.
    ///
    /// # Errors
    /// Those of the [`Channel`].
    pub async fn send_raw(self) -> Result<Response<Body>> {
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
        self.channel.run(request).await
    }
}

#[derive(serde::Deserialize)]
struct Data<T> {
    data: T,
}

/// Reads a body to its end.
pub(crate) async fn read(body: Body, bytes_max: usize) -> Result<Bytes> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Error::new(
            ErrorKind::TooLarge,
            "answer_too_large",
            "the answer is too large",
        )
        .with("bytes_max", bytes_max)),
        Err(error) => Err(broken(error)),
    }
}

pub(crate) fn broken(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
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
