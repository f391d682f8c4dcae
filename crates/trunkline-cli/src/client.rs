//! Asks the admin API.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::commands::Failure;

/// A platform on this machine or near it answers sooner.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
const PORT: u16 = 9900;

type Sent = Full<Bytes>;
type Wire = TokioIo<TcpStream>;

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
        let path = with_query(path, query)?;
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
        let (mut sender, connection) = self.connect().await?;
        let request = self.request(method, path, "application/json", body)?;
        let answering = async {
            let response = sender.send_request(request).await.context("no answer")?;
            answer(response).await
        };
        let mut answering = std::pin::pin!(answering);
        let answered = tokio::select! {
            biased;
            answered = &mut answering => answered,
            // The connection may end before its last bytes were taken up.
            _ = connection => answering.await,
        };
        answered.map_err(|error| self.unreachable(format!("{error:#}")))
    }

    /// Tells each event of a stream until it ends.
    pub(crate) async fn follow(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
        mut each: impl FnMut(&Value) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (mut sender, connection) = self.connect().await?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let path = with_query(path, query)?;
        let request = self.request(Method::GET, &path, "text/event-stream", None)?;
        let broken = |error: anyhow::Error| self.unreachable(format!("{error:#}"));
        let response = sender.send_request(request).await;
        let response = response.context("no answer").map_err(broken)?;
        if !response.status().is_success() {
            answer(response).await.map_err(broken)?.accepted()?;
            return Ok(());
        }
        let mut stream = Stream::default();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.context("the stream broke").map_err(broken)?;
            let Ok(bytes) = frame.into_data() else {
                continue;
            };
            for event in stream.take(&bytes).map_err(broken)? {
                each(&event)?;
            }
        }
        Ok(())
    }

    fn unreachable(&self, why: String) -> Failure {
        let port = self.authority.port_u16().unwrap_or(PORT);
        let address = format!("http://{}:{port}", self.authority.host());
        Failure::Unreachable { address, why }
    }

    async fn connect(&self) -> Result<(SendRequest<Sent>, Connection<Wire, Sent>), Failure> {
        let host = self.authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = self.authority.port_u16().unwrap_or(PORT);
        let stream = match timeout(CONNECT_WITHIN, TcpStream::connect((bare, port))).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.unreachable(error.to_string())),
            Err(_) => return Err(self.unreachable(format!("no answer within {CONNECT_WITHIN:?}"))),
        };
        hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(error.to_string()))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<String>,
    ) -> Result<Request<Sent>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.authority.as_str())
            .header(ACCEPT, accept);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| Failure::Usage(format!("--token: {error}")))
    }
}

fn with_query(path: &str, query: &[(&str, Option<String>)]) -> Result<String, Failure> {
    let given: Vec<_> = query
        .iter()
        .filter_map(|(name, value)| Some((*name, value.as_ref()?)))
        .collect();
    if given.is_empty() {
        return Ok(path.to_owned());
    }
    let query = serde_urlencoded::to_string(given).map_err(anyhow::Error::from)?;
    Ok(format!("{path}?{query}"))
}

/// Reads an answer to its end.
async fn answer(response: Response<Incoming>) -> anyhow::Result<Answer> {
    let (parts, body) = response.into_parts();
    let bytes = Limited::new(body, ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(anyhow::Error::from_boxed)
        .context("half an answer")?
        .to_bytes();
    let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
    Ok(Answer {
        status: parts.status,
        body,
    })
}

/// Server-sent events as they come in, in pieces.
#[derive(Default)]
struct Stream {
    rest: Vec<u8>,
    data: String,
    is_named: bool,
}

impl Stream {
    /// The events that are whole now; those with a name of their own are not for whoever follows.
    fn take(&mut self, bytes: &[u8]) -> anyhow::Result<Vec<Value>> {
        self.rest.extend_from_slice(bytes);
        anyhow::ensure!(
            self.rest.len().max(self.data.len()) <= ANSWER_BYTES_MAX,
            "an event is too large"
        );
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if let Some(data) = line.strip_prefix("data:") {
                self.data.push_str(data);
            } else if line.starts_with("event:") {
                self.is_named = true;
            } else if line.is_empty() {
                let data = std::mem::take(&mut self.data);
                if !std::mem::take(&mut self.is_named) && !data.is_empty() {
                    events.push(serde_json::from_str(&data).context("an event is no JSON")?);
                }
            }
        }
        Ok(events)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_whatever_the_pieces_are() {
        let text = ": hello\n\nid: 1\ndata: {\"n\":\ndata: 1}\n\nevent: behind\ndata: {}\n\ndata:{\"n\":2}\r\n\r\n";
        for size in 1..text.len() {
            let mut stream = Stream::default();
            let mut events = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                events.extend(stream.take(piece).unwrap());
            }
            let numbers: Vec<_> = events.iter().map(|event| event["n"].clone()).collect();
            assert_eq!(numbers, [1, 2]);
        }
    }
}
