//! Requests of the tests, and what comes back.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::Service as _;
use trunkline_call::{Body, Network};
use trunkline_core::{Env, Error, Result};
use trunkline_telemetry::Telemetry;

/// A request to a service, through its channel.
#[derive(Clone)]
pub struct Ask {
    network: Network,
    service: &'static str,
    headers: HeaderMap,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Ask {
    pub fn new(network: Network, service: &'static str) -> Self {
        Self {
            network,
            service,
            headers: HeaderMap::new(),
        }
    }

    /// Asks an address, without any platform at hand.
    pub fn at(address: std::net::SocketAddr) -> Self {
        let env = Env::system();
        let network = Network::new(Telemetry::disabled(env.clone()), env);
        let url = format!("http://{address}");
        network
            .remote("there", &url, trunkline_call::Responses::Plain)
            .unwrap();
        Self::new(network, "there")
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).unwrap();
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }

    pub fn key(self, key: &str) -> Self {
        self.with("idempotency-key", key)
    }

    pub async fn get(self, path: &str) -> Answer {
        self.send(Method::GET, path, Vec::new()).await
    }

    pub async fn post(mut self, path: &str, body: Value) -> Answer {
        let json = HeaderValue::from_static("application/json");
        self.headers.entry(CONTENT_TYPE).or_insert(json);
        self.send(Method::POST, path, body.to_string().into()).await
    }

    pub async fn send(self, method: Method, path: &str, body: Vec<u8>) -> Answer {
        self.try_send(method, path, body).await.unwrap()
    }

    pub async fn try_send(self, method: Method, path: &str, body: Vec<u8>) -> Result<Answer> {
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        *request.headers_mut() = self.headers;
        let answer = self
            .network
            .channel("test", self.service)
            .bare()
            .call(request)
            .await?;
        let (parts, body) = answer.into_parts();
        let broken = |error| Error::unavailable("answer_broken", "broken off").with_source(error);
        let bytes = body.collect().await.map_err(broken)?.to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let status: StatusCode = parts.status;
        Ok(Answer {
            status: status.as_u16(),
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
            text,
        })
    }
}

impl Answer {
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}
