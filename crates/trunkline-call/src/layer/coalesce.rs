//! Identical reads at the same time are one.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::Either;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use parking_lot::Mutex;
use tokio::sync::watch;
use trunkline_core::{Error, Result};

use super::plan::Plan;
use super::{Around, Event, Next, Observer, tower_layer};
use crate::Body;
use crate::client::read;
use crate::headers::{CALLER, CAUSATION_ID, CORRELATION_ID, DEADLINE_MS, REQUEST_ID, TRACEPARENT};
use crate::policy::Policy;

/// A longer answer is not shared: those who waited for it ask themselves.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// While more different reads than this are under way, further ones are not looked up.
const READS_MAX: usize = 1_024;

/// Headers in which identical reads differ.
const OF_ONE: [HeaderName; 6] = [
    TRACEPARENT,
    CORRELATION_ID,
    REQUEST_ID,
    DEADLINE_MS,
    CALLER,
    CAUSATION_ID,
];

/// Lets one of several identical reads go on and gives its answer to all, where the policy says `coalesce`.
///
/// # Guarantees
/// Reads are identical if path and headers are, save those of trace, flow, request and deadline. When the one that went
/// on is given up by its caller, the next one goes on. An answer may be of a question that was asked a little earlier:
/// who has to see its own write reads without this.
#[derive(Clone)]
pub struct Coalesce {
    own: Policy,
    under_way: Arc<Mutex<HashMap<Vec<u8>, watch::Receiver<Told>>>>,
    observer: Observer,
}

/// What those who wait are told; nothing yet at first.
type Told = Option<Arc<Shared>>;

enum Shared {
    Answer {
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
    },
    Failed(Error),
    TooLong,
}

impl Coalesce {
    /// Coalesces by `policy` where a call brings none of its own.
    pub fn new(policy: Policy) -> Self {
        Self {
            own: policy,
            under_way: Arc::default(),
            observer: Observer::default(),
        }
    }

    /// Tells this observer of each read that got another's answer.
    #[must_use]
    pub fn observed(self, observer: Observer) -> Self {
        Self { observer, ..self }
    }

    /// To go on as the first, or to wait for it.
    fn join(&self, key: &[u8]) -> Role {
        let mut under_way = self.under_way.lock();
        if let Some(first) = under_way.get(key) {
            return Role::Waits(first.clone());
        }
        if under_way.len() >= READS_MAX {
            return Role::Alone;
        }
        let (tell, told) = watch::channel(None);
        under_way.insert(key.to_vec(), told);
        Role::First(First {
            key: key.to_vec(),
            all: self.under_way.clone(),
            tell,
        })
    }
}

enum Role {
    First(First),
    Waits(watch::Receiver<Told>),
    Alone,
}

/// The one that goes on; dropped, nobody is any more.
struct First {
    key: Vec<u8>,
    all: Arc<Mutex<HashMap<Vec<u8>, watch::Receiver<Told>>>>,
    tell: watch::Sender<Told>,
}

impl Drop for First {
    fn drop(&mut self) {
        // Once it has told, the key is another's.
        if self.tell.borrow().is_none() {
            self.all.lock().remove(&self.key);
        }
    }
}

impl First {
    async fn go<N: Next>(self, request: Request<Body>, next: &N) -> Result<Response<Body>> {
        let response = match next.call(request).await {
            Ok(response) => response,
            Err(error) => {
                self.share(Shared::Failed(copy(&error)));
                return Err(error);
            }
        };
        let (parts, body) = response.into_parts();
        let upper = body.size_hint().upper().unwrap_or(u64::MAX);
        if upper > ANSWER_BYTES_MAX as u64 {
            // A body without an end in sight is its caller's alone.
            self.share(Shared::TooLong);
            return Ok(Response::from_parts(parts, body));
        }
        match read(body, ANSWER_BYTES_MAX).await {
            Ok(body) => {
                self.share(Shared::Answer {
                    status: parts.status,
                    headers: parts.headers.clone(),
                    body: body.clone(),
                });
                Ok(Response::from_parts(parts, Body::from(body)))
            }
            Err(error) => {
                self.share(Shared::Failed(copy(&error)));
                Err(error)
            }
        }
    }

    fn share(&self, shared: Shared) {
        // First off the list: who comes now asks anew.
        self.all.lock().remove(&self.key);
        drop(self.tell.send(Some(Arc::new(shared))));
    }
}

tower_layer!(Coalesce);

impl Around for Coalesce {
    fn around<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
    ) -> impl Future<Output = Result<Response<Body>>> + Send {
        let plan = Plan::of(&request, &self.own);
        let is_read = request.method() == Method::GET && request.body().is_end_stream();
        if !plan.policy.coalesce || !is_read {
            return Either::Left(next.call(request));
        }
        // In a box of its own, so that calls that are not coalesced have no room for it.
        Either::Right(Box::pin(self.share(request, next)))
    }
}

impl Coalesce {
    async fn share<N: Next>(&self, request: Request<Body>, next: &N) -> Result<Response<Body>> {
        let key = key_of(&request);
        loop {
            let mut told = match self.join(&key) {
                Role::First(first) => return first.go(request, next).await,
                Role::Alone => return next.call(request).await,
                Role::Waits(told) => told,
            };
            // An end without a word: the first was given up, and another goes on.
            let Ok(told) = told
                .wait_for(Option::is_some)
                .await
                .map(|told| told.clone())
            else {
                continue;
            };
            match told.as_deref() {
                Some(Shared::Answer {
                    status,
                    headers,
                    body,
                }) => {
                    self.observer.tell(Event::Coalesced);
                    let mut response = Response::new(Body::from(body.clone()));
                    *response.status_mut() = *status;
                    *response.headers_mut() = headers.clone();
                    return Ok(response);
                }
                Some(Shared::Failed(error)) => return Err(copy(error)),
                Some(Shared::TooLong) | None => return next.call(request).await,
            }
        }
    }
}

/// All that two reads may differ in, each part behind its length.
fn key_of(request: &Request<Body>) -> Vec<u8> {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let mut parts: Vec<(&[u8], &[u8])> = vec![(b"", path.as_bytes())];
    let headers = request.headers().iter();
    let headers = headers.filter(|(name, _)| !OF_ONE.contains(name));
    parts.extend(headers.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())));
    parts.sort();
    let mut key = Vec::new();
    for (name, value) in parts {
        for text in [name, value] {
            key.extend_from_slice(&(text.len() as u64).to_le_bytes());
            key.extend_from_slice(text);
        }
    }
    key
}

/// The same error for another caller; the chain of its causes stays with the first.
fn copy(error: &Error) -> Error {
    let mut copy = Error::new(
        error.kind(),
        error.code().to_owned(),
        error.message().to_owned(),
    )
    .with_retry(error.retry());
    if let Some(pause) = error.retry_after() {
        copy = copy.with_retry_after(pause);
    }
    for (key, value) in error.context() {
        copy = copy.with(key, value);
    }
    copy
}

impl fmt::Debug for Coalesce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coalesce")
            .field("under_way", &self.under_way.lock().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;
    use tokio::time::timeout;

    use super::super::testing::{Script, after, fails, get, ok, text};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn layer() -> Coalesce {
        Coalesce::new(Policy {
            coalesce: true,
            ..Policy::default()
        })
    }

    fn asked(path: &str, user: &'static str, request_id: usize) -> Request<Body> {
        let mut request = get(path);
        let all = request.headers_mut();
        all.insert("x-user-id", user.parse().unwrap());
        all.insert("x-request-id", request_id.into());
        request
    }

    #[tokio::test(start_paused = true)]
    async fn identical_reads_are_one_call_and_others_are_not() {
        let layer = layer();
        let script = Script::new((0..3).map(|_| after(SECOND, ok())));
        let reads = [
            ("/a", "ann"),
            ("/a", "ann"),
            ("/a", "bob"),
            ("/b", "ann"),
            ("/a", "ann"),
        ];
        let reads = reads.iter().enumerate().map(|(at, (path, user))| {
            let read = layer.around(asked(path, user, at), &script);
            async { text(read.await.unwrap()).await }
        });
        let answers = join_all(reads).await;
        assert_eq!(answers, ["[1]"; 5]);
        assert_eq!(script.calls(), 3);
        assert!(layer.under_way.lock().is_empty());
        script.add(ok());
        layer.around(asked("/a", "ann", 9), &script).await.unwrap();
        assert_eq!(script.calls(), 4, "one that comes later asks anew");
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_first_is_given_up_another_goes_on() {
        let layer = layer();
        let script = Script::new([after(SECOND * 9, ok()), after(SECOND, ok())]);
        let first = timeout(SECOND, layer.around(asked("/a", "ann", 1), &script));
        let second = layer.around(asked("/a", "ann", 2), &script);
        let (first, second) = tokio::join!(first, second);
        assert!(first.is_err());
        assert_eq!(second.unwrap().status(), 200);
        assert_eq!(script.calls(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_everybodys() {
        let layer = layer();
        let error = Error::unavailable("gone", "not there").with_retry_after(SECOND);
        let script = Script::new([after(SECOND, fails(error))]);
        let reads = (0..3).map(|at| layer.around(asked("/a", "ann", at), &script));
        for answer in join_all(reads).await {
            let error = answer.unwrap_err();
            assert_eq!((error.code(), error.retry_after()), ("gone", Some(SECOND)));
        }
        assert_eq!(script.calls(), 1);
    }
}
