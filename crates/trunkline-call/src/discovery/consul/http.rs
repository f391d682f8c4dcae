//! Asking an agent, with a bound on everything that it can do in return.

use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;
use trunkline_core::{Error, Result};

use super::super::url::wrong;
use super::refused;

/// A longer answer is refused: it is room for more instances than are used.
const ANSWER_BYTES_MAX: usize = 4 << 20;
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

pub(super) struct Agent {
    authority: Authority,
    token: Option<HeaderValue>,
    http: Client<HttpConnector, Full<Bytes>>,
}

/// What an agent answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// `X-Consul-Index`, if it is a number.
    pub(super) index: Option<u64>,
    pub(super) body: Bytes,
}

impl Answer {
    /// Whether it did what it was asked for.
    pub(super) fn ok(&self) -> Result<()> {
        if self.status == StatusCode::OK {
            return Ok(());
        }
        Err(refused(self.status, &self.body))
    }
}

impl Agent {
    pub(super) fn new(authority: Authority, token: Option<&str>) -> Result<Self> {
        let token = token.map(|token| {
            let mut value = HeaderValue::from_str(token)
                .map_err(|_| wrong("expected `token` to be an ACL token", ""))?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        });
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_WITHIN));
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self {
            authority,
            token: token.transpose()?,
            http,
        })
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        within: Duration,
    ) -> Result<Answer> {
        let named = |error: Error| error.with("registry", &self.authority);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.authority));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header("x-consul-token", token);
        }
        let request = request
            .body(Full::new(body.unwrap_or_default().into()))
            .map_err(|error| wrong("expected a plain path", path).with_source(error))?;
        let answered = timeout(within, self.answer(request)).await;
        let late = || Error::unavailable("registry_timeout", "the registry did not answer in time");
        answered.unwrap_or_else(|_| Err(late())).map_err(named)
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let unreached =
            || Error::unavailable("registry_unreachable", "the registry can't be reached");
        let sent = self.http.request(request).await;
        let response = sent.map_err(|error| unreached().with_source(error))?;
        let index = response.headers().get("x-consul-index");
        let index = index.and_then(|index| index.to_str().ok()?.parse().ok());
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                let text = "the registry's answer is larger than is read";
                return Error::unavailable("registry_unreadable", text)
                    .with("bytes_max", ANSWER_BYTES_MAX);
            }
            unreached().with_source(error)
        })?;
        Ok(Answer {
            status,
            index,
            body: body.to_bytes(),
        })
    }
}
