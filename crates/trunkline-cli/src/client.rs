//! Asks the admin API.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::commands::Failure;

/// A platform on this machine or near it answers sooner.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
const PORT: u16 = 9900;

pub(crate) struct Client {
    authority: Authority,
    token: Option<String>,
}

/// What the platform said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

impl Client {
    /// A client of `http://host:port`; a bare `host:port` will do.
    pub(crate) fn new(admin: &str, token: Option<&str>) -> Result<Self, Failure> {
        let wrong = || {
            Failure::Usage(format!(
                "--admin: expected an address such as http://127.0.0.1:{PORT}, found `{admin}`"
            ))
        };
        let url = if admin.contains("://") {
            admin.to_owned()
        } else {
            format!("http://{admin}")
        };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("http") || !matches!(uri.path(), "" | "/") {
            return Err(wrong());
        }
        Ok(Self {
            authority: uri.authority().cloned().ok_or_else(wrong)?,
            token: token.map(str::to_owned),
        })
    }

    pub(crate) async fn get(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
    ) -> Result<Value, Failure> {
        let given: Vec<_> = query
            .iter()
            .filter_map(|(name, value)| Some((*name, value.as_ref()?)))
            .collect();
        let mut path = path.to_owned();
        if !given.is_empty() {
            let query = serde_urlencoded::to_string(given).map_err(anyhow::Error::from)?;
            write!(path, "?{query}").map_err(anyhow::Error::from)?;
        }
        self.send(Method::GET, &path, None).await?.accepted()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let body = body.to_string();
        self.send(Method::POST, path, Some(body)).await?.accepted()
    }

    /// One request on a connection of its own. There is no limit on how long an answer takes: a replay ends when
    /// it ends.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Answer, Failure> {
        let host = self.authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = self.authority.port_u16().unwrap_or(PORT);
        let unreachable = |why: String| Failure::Unreachable {
            address: format!("http://{host}:{port}"),
            why,
        };
        let stream = match timeout(CONNECT_WITHIN, TcpStream::connect((bare, port))).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable(format!("no answer within {CONNECT_WITHIN:?}"))),
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.authority.as_str())
            .header(ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| Failure::Usage(format!("--token: {error}")))?;
        let answering = async {
            let response = sender.send_request(request).await.context("no answer")?;
            let (parts, body) = response.into_parts();
            let bytes = Limited::new(body, ANSWER_BYTES_MAX)
                .collect()
                .await
                .map_err(anyhow::Error::from_boxed)
                .context("half an answer")?
                .to_bytes();
            anyhow::Ok((parts.status, bytes))
        };
        let mut answering = std::pin::pin!(answering);
        let answered = tokio::select! {
            biased;
            answered = &mut answering => answered,
            // The connection may end before its last bytes were taken up.
            _ = connection => answering.await,
        };
        let (status, bytes) = answered.map_err(|error| unreachable(format!("{error:#}")))?;
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
        Ok(Answer { status, body })
    }
}

impl Answer {
    /// The body of an answer that is none of an error.
    pub(crate) fn accepted(self) -> Result<Value, Failure> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        let text = |name: &str| self.body.get(name).and_then(Value::as_str);
        Err(Failure::Refused {
            status: self.status,
            code: text("code").unwrap_or_default().to_owned(),
            detail: text("detail").unwrap_or_default().to_owned(),
        })
    }
}

/// A word as one segment of a path.
pub(crate) fn segment(word: &str) -> String {
    let mut encoded = String::with_capacity(word.len());
    for byte in word.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").unwrap_or_default();
        }
    }
    encoded
}
