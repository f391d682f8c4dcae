//! Sending a request to a target, and to others if that was in vain.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Request, Response};
use metrics::counter;
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep_until};
use trunkline_call::{Body, RequestHead, Stage, Unanswered, Wire, WireBody};
use trunkline_core::{Error, Result};

use super::Group;
use super::answer::{AnswerBody, Place};
use super::health::Said;
use super::pick::Tried;
use crate::body::Progress;
use crate::problem;

/// So many connections may break that were being closed when a request came, before that speaks for a fault.
const STALE_MAX: usize = 8;

/// Where a target has more requests to do, one gives way to the tasks that are ready before it is sent: so those that came together are
/// looked at first and sent one right after the other, and their target is woken once for all (ADR 112).
const CROWD: usize = 64;

/// What a service is reached by.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) group: Arc<Group>,
    /// For each target of the group its connections, and what it is told as `Host`.
    pub(super) ends: Box<[(Arc<Wire>, HeaderValue)]>,
    /// How often a request is sent again.
    pub(super) retries: u16,
    /// A target may pause for so long before it takes more of a request.
    pub(super) write_within: Duration,
    /// A target may pause for so long before it gives more of an answer; of its head all of it.
    pub(super) read_within: Duration,
}

/// A request on its way to a target.
pub(crate) struct Sending<'a> {
    /// As it goes on, but for its body and perhaps its `Host`.
    pub(crate) head: RequestHead<'a>,
    /// The client's body, and how it fares; nothing where it has none.
    pub(crate) body: Option<(Body, &'a Progress)>,
    /// The headers of a request with a body, where nobody else looks at them: those of the head are none then.
    pub(crate) headers: Option<HeaderMap>,
    /// More of it is refused.
    pub(crate) bytes_max: Option<u64>,
    pub(crate) key: Option<&'a [u8]>,
}

/// Why an attempt came to nothing, and what there is to try again with.
struct Failed {
    error: Error,
    said: Said,
    /// Whether nothing was sent,
    is_untouched: bool,
    /// and the request, if it has a body and is there.
    unsent: Option<Box<Request<Body>>>,
    was_kept: bool,
}

impl Backend {
    /// Sends a request to a target; where that fails, to another one, if it was never sent or does no harm twice and has
    /// no body. A kept connection that was being closed when the request came counts for nothing.
    ///
    /// # Errors
    /// `upstream_unhealthy` (503), `upstream_unreachable` (502), `upstream_timeout` (504), or what is wrong with the
    /// client's body.
    pub(crate) async fn send(&self, sending: Sending<'_>) -> Result<Response<Body>> {
        let Sending {
            head,
            body,
            headers,
            bytes_max,
            key,
        } = sending;
        let (mut request, progress) = match body {
            // In a box: most have none, and need no room for it.
            Some((body, progress)) => {
                let headers = headers.unwrap_or_else(|| head.headers.clone());
                let request = Box::new(head.with_headers(headers, body));
                (Some(request), Some(progress))
            }
            // Its head is all of it, and stays at hand.
            None => (None, None),
        };
        let repeats = progress.is_none() && head.method.is_idempotent();
        let (mut tried, mut left) = (Tried::default(), self.retries);
        let mut stale_left = STALE_MAX;
        loop {
            let Some(index) = self.group.picker.pick(key, &tried) else {
                return Err(problem::upstream_unhealthy());
            };
            let answer = self.attempt(index, (head, request), progress).await;
            if let Some(refusal) = progress.and_then(|progress| progress.refusal(bytes_max)) {
                return Err(refusal);
            }
            let failed = match answer {
                Ok(response) => {
                    self.group
                        .said(index, Said::Status(response.status().as_u16()));
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            request = failed.unsent;
            let is_stale = failed.was_kept && stale_left > 0;
            if is_stale && repeats {
                stale_left -= 1;
                continue;
            }
            if !is_stale {
                self.group.said(index, failed.said);
            }
            let is_at_hand = progress.is_none() || request.is_some();
            let is_harmless = failed.is_untouched || repeats;
            if left == 0 || !is_at_hand || !is_harmless {
                return Err(failed.error);
            }
            left -= 1;
            tried.add(index);
            let labels = [("upstream", self.group.name.to_string())];
            counter!("trunkline_gateway_upstream_retries_total", &labels).increment(1);
            tracing::debug!(service = "gateway", error = %failed.error, "sent again");
        }
    }

    async fn attempt(
        &self,
        index: usize,
        (head, request): (RequestHead<'_>, Option<Box<Request<Body>>>),
        progress: Option<&Progress>,
    ) -> Result<Response<Body>, Failed> {
        let member = self.group.members.get(index).zip(self.ends.get(index));
        let Some((member, (wire, host))) = member else {
            let error = Error::internal("each target has an end");
            return Err(Failed::of(error.into(), Said::Nothing));
        };
        let is_ours = match &request {
            Some(request) => !request.headers().contains_key(HOST),
            None => !head.has(&HOST),
        };
        let place = Place::at(&member.vitals);
        if member.vitals.under_way.load(Ordering::Relaxed) > CROWD {
            yield_now().await;
        }
        let began = self.group.picker.begins(index);
        let stage = Stage::default();
        let answer = match request {
            Some(mut request) => {
                if is_ours {
                    request.headers_mut().insert(HOST, host.clone());
                }
                let mut sent = Box::pin(wire.send(*request, &stage));
                self.in_time(sent.as_mut(), &stage, progress).await
            }
            None => {
                let host = Some(host);
                let sent = pin!(wire.send_head(RequestHead { host, ..head }, &stage));
                self.in_time(sent, &stage, progress).await
            }
        };
        self.group
            .picker
            .ended(index, began, !matches!(answer, Some(Ok(_))));
        match answer {
            Some(Ok(response)) => {
                let within = self.read_within;
                Ok(response.map(|body| AnswerBody::wrap(body, place, within)))
            }
            Some(Err(unanswered)) => {
                let said = if is_late(&unanswered.error) {
                    Said::Late
                } else {
                    Said::Nothing
                };
                let mut failed = Failed::of(unanswered, said);
                failed.error = failed.error.with("target", &*member.name);
                // Another target has another name.
                if let Some(unsent) = failed.unsent.as_mut().filter(|_| is_ours) {
                    unsent.headers_mut().remove(HOST);
                }
                Err(failed)
            }
            None => {
                let error = problem::upstream_timeout().with("target", &*member.name);
                Err(Failed {
                    error,
                    said: Said::Late,
                    is_untouched: false,
                    unsent: None,
                    was_kept: false,
                })
            }
        }
    }

    /// What sending comes to, or nothing when the target pauses for too long. How long connecting may take is the
    /// connection's to say, and how long the client may pause its body's.
    async fn in_time(
        &self,
        mut sent: Pin<&mut impl Future<Output = Result<Response<WireBody>, Unanswered>>>,
        stage: &Stage,
        progress: Option<&Progress>,
    ) -> Option<Result<Response<WireBody>, Unanswered>> {
        let mut timer = pin!(None::<Sleep>);
        let mut seen = None;
        // A connection that was kept is there at once.
        let mut now = Some(stage.began());
        poll_fn(|cx| {
            if let Poll::Ready(answer) = sent.as_mut().poll(cx) {
                return Poll::Ready(Some(answer));
            }
            let began = now.take();
            if !stage.is_connected() {
                return Poll::Pending;
            }
            loop {
                let step = progress.map(Progress::step);
                if seen != Some(step) {
                    seen = Some(step);
                    let within = match progress {
                        Some(progress) if !progress.is_whole() => self.write_within,
                        _ => self.read_within,
                    };
                    let until = began.unwrap_or_else(Instant::now) + within;
                    match timer.as_mut().as_pin_mut() {
                        Some(waits) => waits.reset(until),
                        None => timer.set(Some(sleep_until(until))),
                    }
                }
                let Some(waits) = timer.as_mut().as_pin_mut() else {
                    return Poll::Pending;
                };
                std::task::ready!(waits.poll(cx));
                let step = progress.map(Progress::step);
                let is_awaited = progress.is_some_and(Progress::is_awaited);
                if seen == Some(step) && !is_awaited {
                    return Poll::Ready(None);
                }
                // It goes on, or it is the client whom everybody waits for.
                seen = None;
            }
        })
        .await
    }
}

impl Failed {
    fn of(unanswered: Unanswered, said: Said) -> Self {
        let Unanswered {
            error,
            unsent,
            is_untouched,
            was_kept,
            ..
        } = unanswered;
        let told = match said {
            Said::Late => problem::upstream_timeout(),
            _ if error.code() == "name_unknown" => problem::upstream_unresolved(),
            _ => problem::upstream_unreachable(),
        };
        Self {
            error: told.with_source(error),
            said,
            is_untouched,
            unsent,
            was_kept,
        }
    }
}

/// Whether it took too long.
fn is_late(error: &Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(why) = cause {
        let io = why.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = why.source();
    }
    false
}
