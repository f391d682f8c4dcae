//! `proxy-cache`, which the storefront's file calls `response-cache`: answers that are given again.

mod shelf;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    AGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE,
    TRANSFER_ENCODING, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use trunkline_call::Body;
use trunkline_core::{Error, ErrorKind};

use self::shelf::{Entry, Key, Shelf};
use super::{Exchange, Making, Mistake, Plugin, Verdict, mistake, settings};

const STATUS: HeaderName = HeaderName::from_static("x-cache-status");
const KEY: HeaderName = HeaderName::from_static("x-cache-key");
/// A longer answer is not kept.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// What one plugin keeps; then what was kept first goes.
const BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    response_code: Vec<u16>,
    request_method: Vec<String>,
    content_type: Vec<String>,
    cache_ttl: u32,
    storage_ttl: Option<u32>,
    strategy: Strategy,
    cache_control: bool,
    ignore_uri_case: bool,
    vary_query_params: Vec<String>,
    vary_headers: Vec<String>,
    memory: Memory,
    response_headers: Told,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Strategy {
    #[default]
    Memory,
}

/// Kong's shared dictionary: how much is kept is ours to bound.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Memory {
    #[serde(rename = "dictionary_name")]
    _name: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Told {
    age: bool,
    #[serde(rename = "X-Cache-Status")]
    status: bool,
    #[serde(rename = "X-Cache-Key")]
    key: bool,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            age: true,
            status: true,
            key: true,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            response_code: vec![200, 301, 404],
            request_method: vec!["GET".to_owned(), "HEAD".to_owned()],
            content_type: vec!["text/plain".to_owned(), "application/json".to_owned()],
            cache_ttl: 300,
            storage_ttl: None,
            strategy: Strategy::Memory,
            cache_control: false,
            ignore_uri_case: false,
            vary_query_params: Vec::new(),
            vary_headers: Vec::new(),
            memory: Memory::default(),
            response_headers: Told::default(),
        }
    }
}

/// Answers that are kept, for whoever asks the same.
///
/// # Guarantees
/// An answer is given only to whoever asks as the same user and consumer. One that sets a cookie is not kept, nor the answer
/// to a request with credentials that no plugin has verified.
#[derive(Debug)]
struct ProxyCache {
    statuses: Vec<u16>,
    methods: Vec<Method>,
    kinds: Vec<String>,
    ttl: Duration,
    obeys: bool,
    ignores_case: bool,
    parameters: Vec<String>,
    headers: Vec<HeaderName>,
    told: Told,
    shelf: Arc<Shelf>,
}

/// What the answer is to be kept under.
#[derive(Debug, Clone, Copy)]
struct Pending {
    key: Key,
    word: &'static str,
    keeps: bool,
}

pub(super) fn make(config: Value, _: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    let (Strategy::Memory, Memory { .. }) = (settings.strategy, settings.memory);
    if settings.cache_ttl == 0 {
        return Err(mistake("cache_ttl", "expected seconds above 0"));
    }
    let method = |(index, name): (usize, &String)| match &**name {
        "GET" => Ok(Method::GET),
        "HEAD" => Ok(Method::HEAD),
        _ => Err(mistake(
            &format!("request_method[{index}]"),
            format!("expected GET or HEAD: others may change something, found `{name}`"),
        )),
    };
    let header = |(index, name): (usize, &String)| {
        let at = format!("vary_headers[{index}]");
        HeaderName::try_from(&**name).map_err(|_| mistake(&at, "expected the name of a header"))
    };
    let mut parameters = settings.vary_query_params;
    parameters.sort_unstable();
    // Kept for longer, an answer would only wait to be thrown away: a stale one is not given.
    let kept = settings.storage_ttl.unwrap_or(settings.cache_ttl);
    Ok(Arc::new(ProxyCache {
        statuses: settings.response_code,
        methods: settings
            .request_method
            .iter()
            .enumerate()
            .map(method)
            .collect::<Result<_, _>>()?,
        kinds: settings.content_type,
        ttl: Duration::from_secs(settings.cache_ttl.min(kept).into()),
        obeys: settings.cache_control,
        ignores_case: settings.ignore_uri_case,
        headers: settings
            .vary_headers
            .iter()
            .enumerate()
            .map(header)
            .collect::<Result<_, _>>()?,
        parameters,
        told: settings.response_headers,
        shelf: Arc::new(Shelf::new(BYTES_MAX)),
    }))
}

impl ProxyCache {
    fn key(&self, exchange: &Exchange) -> Key {
        let request = &exchange.request;
        let mut digest = Sha256::new();
        // Each with its length, so that no two ways to cut a text are one.
        let mut add = |text: &[u8]| {
            digest.update(text.len().to_be_bytes());
            digest.update(text);
        };
        let user = exchange.claims.as_ref().map(|claims| &*claims.sub);
        for who in [exchange.consumer_name(), user] {
            add(&[u8::from(who.is_some())]);
            add(who.unwrap_or_default().as_bytes());
        }
        // A service may say something else to who asks for another host, or by TLS.
        for name in ["x-forwarded-host", "x-forwarded-proto"] {
            let value = request.headers.get(name);
            add(value.map_or(&b""[..], HeaderValue::as_bytes));
        }
        add(exchange.route.as_bytes());
        add(request.method.as_str().as_bytes());
        let path = request.uri.path();
        if self.ignores_case {
            add(path.to_ascii_lowercase().as_bytes());
        } else {
            add(path.as_bytes());
        }
        let query = request.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes());
        let wanted = |name: &str| {
            self.parameters.is_empty()
                || self
                    .parameters
                    .binary_search_by(|known| (**known).cmp(name))
                    .is_ok()
        };
        let mut pairs: Vec<_> = pairs.filter(|(name, _)| wanted(name)).collect();
        pairs.sort();
        for (name, value) in &pairs {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        add(b"headers");
        for name in &self.headers {
            add(name.as_str().as_bytes());
            for value in request.headers.get_all(name) {
                add(value.as_bytes());
            }
        }
        Key(digest.finalize().into())
    }

    /// Whether the answer to a request may be looked up and kept at all.
    fn takes(&self, exchange: &Exchange) -> bool {
        let request = &exchange.request;
        let is_known = exchange.consumer.is_some() || exchange.claims.is_some();
        self.methods.contains(&request.method)
            && (is_known || !request.headers.contains_key(AUTHORIZATION))
            && !(self.obeys && has(&request.headers, "no-store"))
    }

    /// How long an answer is good for, if it is kept.
    fn good_for(&self, response: &Response<Body>) -> Option<Duration> {
        let headers = response.headers();
        let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let media = kind.split(';').next().unwrap_or(kind).trim();
        let fits =
            |known: &String| known.eq_ignore_ascii_case(kind) || known.eq_ignore_ascii_case(media);
        let keeps = self.statuses.contains(&response.status().as_u16())
            && self.kinds.iter().any(fits)
            && !headers.contains_key(SET_COOKIE)
            && !varies_by_others(headers, &self.headers)
            && response.body().size_hint().lower() <= ANSWER_BYTES_MAX as u64;
        if !keeps {
            return None;
        }
        if !self.obeys {
            return Some(self.ttl);
        }
        if ["no-store", "no-cache", "private"]
            .iter()
            .any(|word| has(headers, word))
        {
            return None;
        }
        let told = directive(headers, "s-maxage").or_else(|| directive(headers, "max-age"));
        let told = told.map_or(self.ttl, Duration::from_secs);
        (!told.is_zero()).then_some(told)
    }
}

/// Whether an answer depends on a header that is not part of the key.
fn varies_by_others(headers: &HeaderMap, known: &[HeaderName]) -> bool {
    let names = headers.get_all(VARY).iter();
    let mut names = names.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    names.any(|name| {
        let name = name.trim_ascii();
        // The gateway's own plugins speak of the origin; the encoding is the service's choice of one for all.
        let is_known = |known: &HeaderName| known.as_str().as_bytes().eq_ignore_ascii_case(name);
        !name.eq_ignore_ascii_case(b"origin") && !known.iter().any(is_known)
    })
}

fn directives(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CACHE_CONTROL).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

fn has(headers: &HeaderMap, word: &str) -> bool {
    directives(headers).any(|directive| directive.eq_ignore_ascii_case(word))
}

fn directive(headers: &HeaderMap, name: &str) -> Option<u64> {
    directives(headers).find_map(|directive| {
        let (given, value) = directive.split_once('=')?;
        given
            .eq_ignore_ascii_case(name)
            .then(|| value.trim_matches('"').parse().ok())?
    })
}

impl Plugin for ProxyCache {
    fn remembers(&self) -> bool {
        true
    }

    fn access(&self, exchange: &mut Exchange) -> Verdict {
        let key = self.key(exchange);
        let mut pending = Pending {
            key,
            word: "Bypass",
            keeps: false,
        };
        if self.takes(exchange) {
            (pending.word, pending.keeps) = ("Miss", true);
            let headers = &exchange.request.headers;
            let again = self.obeys
                && (has(headers, "no-cache") || directive(headers, "max-age") == Some(0));
            let only = self.obeys && has(headers, "only-if-cached");
            match self.shelf.find(&key, exchange.now) {
                Some(_) if again => pending.word = "Refresh",
                Some((entry, age)) => {
                    (pending.word, pending.keeps) = ("Hit", false);
                    exchange.extensions.insert(pending);
                    return Verdict::Answer(self.given(&entry, age));
                }
                None if only => {
                    let text = "the answer is not kept, and the service was not to be asked";
                    return Verdict::Refuse(Error::new(
                        ErrorKind::DeadlineExceeded,
                        "cache_miss",
                        text,
                    ));
                }
                None => {}
            }
        }
        exchange.extensions.insert(pending);
        Verdict::Next
    }

    fn received(&self, exchange: &mut Exchange, response: &mut Response<Body>) {
        let Some(pending) = exchange.extensions.get_mut::<Pending>() else {
            return;
        };
        let good_for = pending.keeps.then(|| self.good_for(response)).flatten();
        let Some(good_for) = good_for else {
            pending.word = "Bypass";
            return;
        };
        let mut headers = response.headers().clone();
        for gone in [CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH, AGE] {
            headers.remove(gone);
        }
        let keeping = Keeping {
            status: response.status(),
            headers,
            kept_at: exchange.now,
            good_for,
            key: pending.key,
            shelf: self.shelf.clone(),
            bytes: BytesMut::new(),
        };
        let body = std::mem::replace(response.body_mut(), Body::empty());
        *response.body_mut() = Body::new(Tee {
            body,
            keeping: Some(keeping),
        });
    }

    fn answer(&self, exchange: &Exchange, response: &mut Response<Body>) {
        let Some(pending) = exchange.extensions.get::<Pending>() else {
            return;
        };
        let headers = response.headers_mut();
        if self.told.status {
            headers.insert(STATUS, HeaderValue::from_static(pending.word));
        }
        if self.told.key {
            crate::headers::put(headers, KEY, &pending.key.to_string());
        }
    }
}

impl ProxyCache {
    fn given(&self, entry: &Entry, age: Duration) -> Response<Body> {
        let mut response = Response::new(Body::from(entry.body.clone()));
        *response.status_mut() = entry.status;
        *response.headers_mut() = entry.headers.clone();
        if self.told.age {
            response.headers_mut().insert(AGE, age.as_secs().into());
        }
        response
    }
}

/// An answer that is kept once all of it has gone by.
struct Keeping {
    status: StatusCode,
    headers: HeaderMap,
    kept_at: trunkline_core::Timestamp,
    good_for: Duration,
    key: Key,
    shelf: Arc<Shelf>,
    bytes: BytesMut,
}

impl Keeping {
    fn keep(self) {
        let entry = Entry {
            status: self.status,
            headers: self.headers,
            body: self.bytes.freeze(),
            kept_at: self.kept_at,
            good_for: self.good_for,
        };
        self.shelf.put(self.key, entry);
    }
}

/// A body that is read along as it goes by.
struct Tee {
    body: Body,
    keeping: Option<Keeping>,
}

impl http_body::Body for Tee {
    type Data = Bytes;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let is_long = |keeping: &Keeping, more: &Bytes| {
                    keeping.bytes.len() + more.len() > ANSWER_BYTES_MAX
                };
                match (frame.data_ref(), &mut self.keeping) {
                    (Some(data), Some(keeping)) if !is_long(keeping, data) => {
                        keeping.bytes.extend_from_slice(data);
                    }
                    // Too long, or with trailers: not kept.
                    _ => self.keeping = None,
                }
                if self.body.is_end_stream()
                    && let Some(keeping) = self.keeping.take()
                {
                    keeping.keep();
                }
            }
            Poll::Ready(None) => {
                if let Some(keeping) = self.keeping.take() {
                    keeping.keep();
                }
            }
            Poll::Ready(Some(Err(_))) => self.keeping = None,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
