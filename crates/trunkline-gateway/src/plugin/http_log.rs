//! `http-log`: each request as JSON to a place that keeps logs, in batches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;
use serde_json::Value;
use trunkline_core::Error;

use super::log::{Log, headers, no_lua};
use super::queue::{self, Sink};
use super::{Making, Mistake, Plugin, mistake, settings};
use crate::outside::{IGNORED_BYTES_MAX, Outside};

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    http_endpoint: String,
    method: String,
    content_type: String,
    timeout: u32,
    keepalive: u32,
    headers: BTreeMap<String, String>,
    queue: queue::Settings,
    /// Kong's names before 3.3.
    retry_count: Option<u32>,
    queue_size: Option<usize>,
    flush_timeout: Option<f64>,
    custom_fields_by_lua: Option<BTreeMap<String, String>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            http_endpoint: String::new(),
            method: "POST".to_owned(),
            content_type: "application/json".to_owned(),
            timeout: 10_000,
            keepalive: 60_000,
            headers: BTreeMap::new(),
            queue: queue::Settings::default(),
            retry_count: None,
            queue_size: None,
            flush_timeout: None,
            custom_fields_by_lua: None,
        }
    }
}

struct Endpoint {
    outside: Outside,
    method: Method,
    headers: HeaderMap,
}

pub(super) fn make(config: Value, making: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let mut settings: Settings = settings(config)?;
    no_lua(settings.custom_fields_by_lua.as_ref())?;
    if settings.retry_count.is_some() {
        let expected = "expected `queue.max_retry_time`: tries are bounded by time, not by number";
        return Err(mistake("retry_count", expected));
    }
    if let Some(size) = settings.queue_size {
        settings.queue.max_batch_size = size;
    }
    if let Some(seconds) = settings.flush_timeout {
        settings.queue.max_coalescing_delay = seconds;
    }
    let policy = settings.queue.check()?;
    if settings.timeout == 0 {
        return Err(mistake("timeout", "expected milliseconds above 0"));
    }
    let method = match &*settings.method {
        "POST" => Method::POST,
        "PUT" => Method::PUT,
        "PATCH" => Method::PATCH,
        other => {
            let expected = format!("expected POST, PUT or PATCH, found `{other}`");
            return Err(mistake("method", expected));
        }
    };
    let kind = match &*settings.content_type {
        kind @ ("application/json" | "application/json; charset=utf-8") => kind,
        other => {
            let expected = format!("expected application/json, found `{other}`");
            return Err(mistake("content_type", expected));
        }
    };
    let mut headers = headers(&settings.headers)?;
    let text = |_| mistake("content_type", "expected a text for a header");
    headers.insert(CONTENT_TYPE, HeaderValue::from_str(kind).map_err(text)?);
    let millis = |millis: u32| Duration::from_millis(millis.into());
    let (within, idle_max) = (millis(settings.timeout), millis(settings.keepalive));
    let outside = Outside::new(&settings.http_endpoint, within, idle_max)
        .map_err(|expected| mistake("http_endpoint", expected))?;
    let endpoint = Endpoint {
        outside,
        method,
        headers,
    };
    Ok(Arc::new(Log::new("http-log", policy, endpoint, making)))
}

impl Sink<String> for Endpoint {
    /// One entry as it is, several as a list: as Kong sends them.
    fn send<'a>(&'a self, batch: &'a [String]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let body = match batch {
                [only] => only.clone(),
                several => format!("[{}]", several.join(",")),
            };
            let (method, body) = (self.method.clone(), Bytes::from(body));
            let sent = self
                .outside
                .send(method, &self.headers, body, IGNORED_BYTES_MAX)
                .await?;
            self.outside.success(sent).map(drop)
        })
    }
}
