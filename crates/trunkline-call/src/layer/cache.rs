//! Answers that are kept: given again while they are good, and when the target fails.

mod control;
mod key;
mod shelf;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::Either;
use http::header::{AGE, CACHE_CONTROL, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use tokio::time::Instant;
use trunkline_core::Result;

use self::control::Control;
use self::key::Key;
use self::shelf::{Entry, Shelf};
use super::held::{Ending, Held};
use super::plan::{Plan, Times};
use super::{Around, Event, Next, Observer, Outcome, tower_layer};
use crate::Body;
use crate::guard::{deadline_exceeded, until};
use crate::headers::{CORRELATION_ID, REQUEST_ID};
use crate::policy::Policy;

/// A longer answer is not kept.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Of a call's time, what is kept to give an older answer in: a tenth, and no more than this.
const RESERVE_MAX: Duration = Duration::from_millis(100);

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Keeps answers to `GET` as their `Cache-Control` allows, and gives an older one when the target fails, where the
/// policy (`fallback_age_max`) or the target (`stale-if-error`) allows that.
///
/// # Guarantees
/// An answer is given only to whoever asks as the same user with the same credentials, unless it is `public`; one that
/// is `private` or `no-store`, sets a cookie, or depends on a header that is none of `accept`, `accept-encoding`,
/// `accept-language` and the user's own, is not kept. A request that changes something forgets what was kept of its
/// path. At most as many bytes as the policy says are kept, and no answer of more than 256 KiB.
///
/// # Shape
/// `Age` in whole seconds, and `cache-status: trunkline; hit; ttl=…`, whose `ttl` is negative for an answer that stands
/// in for a target that failed. The extension [`Age`] of the response says the same.
///
/// # Source
/// RFC 9111; RFC 9211 for `cache-status`; RFC 5861 for `stale-if-error`.
#[derive(Debug, Clone)]
pub struct Cache {
    own: Policy,
    shelf: Arc<Shelf>,
    observer: Observer,
}

/// How old an answer from the cache is: an extension of its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// The time since it was made.
    pub age: Duration,
    /// It stands in for a target that failed.
    pub is_fallback: bool,
}

impl Cache {
    /// A cache of at most so many bytes, by `policy` where a call brings none of its own.
    pub fn new(policy: Policy, bytes_max: usize) -> Self {
        Self {
            own: policy,
            shelf: Arc::new(Shelf::new(bytes_max)),
            observer: Observer::default(),
        }
    }

    /// Tells this observer of each answer that came from here.
    #[must_use]
    pub fn observed(self, observer: Observer) -> Self {
        Self { observer, ..self }
    }

    /// Keeps at most so many bytes from now on.
    pub fn set_bytes_max(&self, bytes_max: usize) {
        self.shelf.set_bytes_max(bytes_max);
    }

    /// A request that changes what may be kept.
    async fn change<N: Next>(&self, request: Request<Body>, next: &N) -> Result<Response<Body>> {
        let path = request.uri().path().to_owned();
        let answer = next.call(request).await;
        // Also of one that failed: what it did before that nobody knows.
        self.shelf.forget(&path);
        answer
    }

    fn find(&self, mine: &Key, anybodys: &Key) -> Option<Arc<Entry>> {
        if self.shelf.is_empty() {
            return None;
        }
        self.shelf.find(mine).or_else(|| self.shelf.find(anybodys))
    }

    fn hit(&self, entry: &Entry) -> Response<Body> {
        self.observer.tell(Event::CacheHit);
        entry.response(false)
    }

    async fn read<N: Next>(
        &self,
        mut request: Request<Body>,
        next: &N,
        mut plan: Plan,
    ) -> Result<Response<Body>> {
        let policy = plan.policy;
        let (mine, anybodys) = Key::both(&request);
        let question = Question {
            found: self.find(&mine, &anybodys),
            mine,
            anybodys,
            path: request.uri().path().to_owned(),
            policy,
        };
        let mut ends = None;
        if let Some(entry) = &question.found {
            let insists = Control::of(request.headers()).insists();
            if policy.cache && entry.is_fresh() && !insists {
                return Ok(self.hit(entry));
            }
            if let Some(etag) = &entry.etag {
                request.headers_mut().insert(IF_NONE_MATCH, etag.clone());
            }
            let may_stand_in = entry.stands_in(policy.fallback_age_max);
            ends = plan.times.ends_by.filter(|_| may_stand_in).map(before);
        }
        if let Some(ends) = ends {
            plan.times = Times::until(ends);
            plan.put_back(&mut request);
        }
        let call = next.call(request);
        let answer = match ends {
            None => Some(call.await),
            Some(ends) => until(ends, call).await,
        };
        let answer = answer.unwrap_or_else(|| Err(deadline_exceeded()));
        self.settle(answer, question)
    }

    /// The answer of the target, or an older one in its stead.
    fn settle(&self, answer: Result<Response<Body>>, question: Question) -> Result<Response<Body>> {
        let Question { found, policy, .. } = &question;
        if Outcome::of(&answer).is_some_and(Outcome::is_trouble) {
            let stands_in = |entry: &&Arc<Entry>| entry.stands_in(policy.fallback_age_max);
            let Some(entry) = found.as_ref().filter(stands_in) else {
                return answer;
            };
            self.observer.tell(Event::Fallback(entry.age()));
            return Ok(entry.response(true));
        }
        let response = answer?;
        if let Some(entry) = found
            && response.status() == StatusCode::NOT_MODIFIED
        {
            let renewed = entry.renewed(response.headers());
            let given = self.hit(&renewed);
            self.shelf.put(question.key(renewed.is_public), renewed);
            return Ok(given);
        }
        let Some(entry) = entry_of(&response, policy, question.path.clone()) else {
            return Ok(response);
        };
        let keeping = Keeping {
            shelf: self.shelf.clone(),
            key: question.key(entry.is_public),
            entry,
            bytes: BytesMut::new(),
            is_too_long: false,
        };
        Ok(response.map(|body| Held::wrap(body, keeping)))
    }
}

/// What is asked, by whom, and what is kept of it.
struct Question {
    mine: Key,
    anybodys: Key,
    path: String,
    policy: Policy,
    found: Option<Arc<Entry>>,
}

impl Question {
    fn key(self, is_public: bool) -> Key {
        if is_public { self.anybodys } else { self.mine }
    }
}

tower_layer!(Cache);

impl Around for Cache {
    fn around<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
    ) -> impl Future<Output = Result<Response<Body>>> + Send {
        let plan = Plan::of(&request, &self.own);
        let is_used = plan.policy.cache || !plan.policy.fallback_age_max.is_zero();
        let said = request.headers();
        // Whoever has conditions of its own has a copy of its own.
        let is_plain = || {
            let conditions = [RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE];
            !conditions.iter().any(|name| said.contains_key(name)) && !Control::of(said).no_store
        };
        if request.method() != Method::GET || !is_used || !is_plain() {
            let changes = !request.method().is_safe() && !self.shelf.is_empty();
            return match changes {
                true => Either::Right(Either::Left(Box::pin(self.change(request, next)))),
                false => Either::Left(next.call(request)),
            };
        }
        // In a box of its own, so that other calls have no room for it.
        Either::Right(Either::Right(Box::pin(self.read(request, next, plan))))
    }
}

/// A little before a deadline.
fn before(deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(Instant::now());
    deadline - (left / 10).min(RESERVE_MAX)
}

/// An answer as it is kept, its body still to come; none for one that is not.
fn entry_of(response: &Response<Body>, policy: &Policy, path: String) -> Option<Entry> {
    let said = response.headers();
    let control = Control::of(said);
    let is_kept = response.status() == StatusCode::OK
        && !control.no_store
        && !control.private
        && !said.contains_key(SET_COOKIE)
        && key::is_told_apart(said);
    let etag = said.get(ETAG).filter(|_| said.contains_key(CACHE_CONTROL));
    let is_good = policy.cache && (!control.fresh_for().is_zero() || etag.is_some());
    let stands_in = !policy.fallback_age_max.is_zero() || control.stale_if_error.is_some();
    if !is_kept || !(is_good || stands_in) {
        return None;
    }
    let age = said
        .get(AGE)
        .and_then(|age| age.to_str().ok()?.parse().ok());
    let age = Duration::from_secs(age.unwrap_or(0));
    let now = Instant::now();
    let mut headers = said.clone();
    // They are of the one request, not of the answer.
    for name in [AGE, CACHE_STATUS, REQUEST_ID, CORRELATION_ID] {
        headers.remove(name);
    }
    Some(Entry {
        path,
        headers,
        body: Bytes::new(),
        etag: etag.cloned(),
        control,
        made: now.checked_sub(age).unwrap_or(now),
        is_public: control.public && !key::varies_by_who(said),
    })
}

impl Entry {
    fn response(&self, is_fallback: bool) -> Response<Body> {
        let age = self.age();
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.headers_mut() = self.headers.clone();
        let said = response.headers_mut();
        said.insert(AGE, HeaderValue::from(age.as_secs()));
        let ttl = i128::from(self.control.fresh_for().as_secs()) - i128::from(age.as_secs());
        // Whole seconds hide a part of one: what stands in is never said to be good.
        let ttl = if is_fallback { ttl.min(-1) } else { ttl.max(0) };
        if let Ok(status) = HeaderValue::try_from(format!("trunkline; hit; ttl={ttl}")) {
            said.insert(CACHE_STATUS, status);
        }
        response.extensions_mut().insert(Age { age, is_fallback });
        response
    }

    /// The same after the target said that nothing changed.
    fn renewed(&self, said: &HeaderMap) -> Self {
        let mut headers = self.headers.clone();
        if let Some(control) = said.get(CACHE_CONTROL) {
            headers.insert(CACHE_CONTROL, control.clone());
        }
        Self {
            path: self.path.clone(),
            control: Control::of(&headers),
            headers,
            body: self.body.clone(),
            etag: self.etag.clone(),
            made: Instant::now(),
            is_public: self.is_public,
        }
    }
}

/// An answer on its way to the caller, to be kept once all of it has passed.
struct Keeping {
    shelf: Arc<Shelf>,
    key: Key,
    entry: Entry,
    bytes: BytesMut,
    is_too_long: bool,
}

impl Ending for Keeping {
    fn data(&mut self, data: &Bytes) {
        self.is_too_long |= self.bytes.len() + data.len() > ANSWER_BYTES_MAX;
        if self.is_too_long {
            self.bytes = BytesMut::new();
        } else {
            self.bytes.extend_from_slice(data);
        }
    }

    fn ended(self, trailers: Option<&HeaderMap>) {
        // What has trailers is more than its bytes.
        if !self.is_too_long && trailers.is_none() {
            let body = self.bytes.freeze();
            self.shelf.put(self.key, Entry { body, ..self.entry });
        }
    }

    fn broken(self) {}
}
