//! A target whose answers are written down beforehand.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use trunkline_core::{Error, Result};

use super::Next;
use crate::Body;

/// One answer, and how long it takes.
pub(crate) type Line = (Duration, Result<Response<Body>>);

/// What the target saw of a request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Gives its answers in turn; after the last it panics, or hangs.
pub(crate) struct Script {
    lines: Mutex<VecDeque<Line>>,
    seen: Mutex<Vec<Seen>>,
    hangs: bool,
}

impl Script {
    pub(crate) fn new(lines: impl IntoIterator<Item = Line>) -> Self {
        Self {
            lines: Mutex::new(lines.into_iter().collect()),
            seen: Mutex::default(),
            hangs: false,
        }
    }

    pub(crate) fn hanging() -> Self {
        let hangs = true;
        Self {
            hangs,
            ..Self::new([])
        }
    }

    pub(crate) fn add(&self, line: Line) {
        self.lines.lock().push_back(line);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    pub(crate) fn calls(&self) -> usize {
        self.seen.lock().len()
    }
}

impl Next for Script {
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        self.seen.lock().push(Seen {
            method: parts.method,
            headers: parts.headers,
            body,
        });
        let line = self.lines.lock().pop_front();
        match line {
            Some((takes, answer)) => {
                tokio::time::sleep(takes).await;
                answer
            }
            None if self.hangs => std::future::pending().await,
            None => panic!("no answer is written down for this call"),
        }
    }
}

pub(crate) fn ok() -> Line {
    status(200)
}

pub(crate) fn status(status: u16) -> Line {
    with(status, &[])
}

pub(crate) fn with(status: u16, headers: &[(&'static str, &'static str)]) -> Line {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    (
        Duration::ZERO,
        Ok(response.body(Body::from("[1]")).unwrap()),
    )
}

pub(crate) fn fails(error: Error) -> Line {
    (Duration::ZERO, Err(error))
}

pub(crate) fn after(takes: Duration, line: Line) -> Line {
    (takes, line.1)
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

pub(crate) async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}
