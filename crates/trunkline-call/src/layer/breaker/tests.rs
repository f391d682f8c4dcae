//! When it opens, what it lets through, and when it closes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use parking_lot::Mutex;
use tokio::time::{advance, timeout};

use super::super::testing::{Script, get, ok, status, text};
use super::super::{Around, Event, Observer};
use super::*;
use crate::Body;

const SECOND: Duration = Duration::from_secs(1);

fn policy() -> BreakerPolicy {
    BreakerPolicy::default()
}

/// A breaker, and the states that it came to.
fn breaker(policy: BreakerPolicy) -> (Arc<Breaker>, Arc<Mutex<Vec<State>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let observer = Observer::new(move |event| {
        if let Event::Breaker(state) = event {
            tell.lock().push(*state);
        }
    });
    (Arc::new(Breaker::new(policy).observed(observer)), told)
}

fn call(breaker: &Arc<Breaker>, outcome: Outcome) {
    breaker.permit().unwrap().record(outcome);
}

use Outcome::{Answered, Failed, Overloaded, TimedOut, Unavailable};

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_open_it_for_a_minute_and_probes_close_it() {
    let (breaker, told) = breaker(policy());
    for outcome in [Failed, Unavailable, TimedOut, Failed, Answered, Overloaded] {
        call(&breaker, outcome);
    }
    (0..4).for_each(|_| call(&breaker, Failed));
    assert_eq!(breaker.state(), State::Closed);
    call(&breaker, Failed);
    assert_eq!(breaker.state(), State::Open);
    let error = breaker.permit().unwrap_err();
    assert_eq!(error.code(), "circuit_open");
    assert_eq!(error.retry_after(), Some(SECOND * 60));
    assert!(!breaker.is_willing());

    advance(SECOND * 60).await;
    assert!(breaker.is_willing());
    let mut probes: Vec<_> = (0..3).map(|_| breaker.permit().unwrap()).collect();
    assert!(breaker.permit().is_err() && !breaker.is_willing());
    assert!(probes.iter().all(Permit::is_probe));
    // One that is given up is free for another.
    drop(probes.pop());
    let mut another = breaker.permit().unwrap();
    assert!(breaker.permit().is_err());
    probes.iter_mut().for_each(|probe| probe.record(Answered));
    assert_eq!(breaker.state(), State::HalfOpen);
    another.record(Answered);
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(*told.lock(), [State::Open, State::HalfOpen, State::Closed]);
    (0..4).for_each(|_| call(&breaker, Failed));
    assert_eq!(
        breaker.state(),
        State::Closed,
        "what was before is forgotten"
    );
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_opens_it_again_for_as_long() {
    let (breaker, told) = breaker(policy());
    (0..5).for_each(|_| call(&breaker, Failed));
    advance(SECOND * 60).await;
    let mut first = breaker.permit().unwrap();
    let mut second = breaker.permit().unwrap();
    first.record(Failed);
    assert_eq!(breaker.state(), State::Open);
    // It was let through before the change: it has no say.
    second.record(Answered);
    drop(second);
    advance(SECOND * 59).await;
    assert!(breaker.permit().is_err());
    advance(SECOND).await;
    drop(breaker.permit().unwrap());
    let states = [State::Open, State::HalfOpen, State::Open, State::HalfOpen];
    assert_eq!(*told.lock(), states);
}

#[tokio::test(start_paused = true)]
async fn half_of_enough_calls_within_the_window_open_it_for_thirty_seconds() {
    let (breaker, _) = breaker(policy());
    // Nine failures and nine answers in turn are too few.
    for _ in 0..9 {
        call(&breaker, Answered);
        call(&breaker, Failed);
    }
    assert_eq!(breaker.state(), State::Closed);
    advance(SECOND * 11).await;
    // What is older than the window does not count.
    for _ in 0..9 {
        call(&breaker, Answered);
        call(&breaker, Failed);
    }
    assert_eq!(breaker.state(), State::Closed);
    call(&breaker, Answered);
    call(&breaker, Failed);
    assert_eq!(breaker.state(), State::Open);
    let left = breaker.permit().unwrap_err().retry_after();
    assert_eq!(left, Some(SECOND * 30));
}

#[tokio::test(start_paused = true)]
async fn a_third_of_failures_do_not_open_it_and_a_late_failure_from_before_has_no_say() {
    let (first, _) = breaker(policy());
    for _ in 0..1_000 {
        call(&first, Failed);
        call(&first, Answered);
        call(&first, Answered);
    }
    assert_eq!(first.state(), State::Closed);

    let (second, told) = breaker(policy());
    let mut late = second.permit().unwrap();
    (0..5).for_each(|_| call(&second, Failed));
    advance(SECOND * 60).await;
    (0..3).for_each(|_| call(&second, Answered));
    late.record(Failed);
    (0..4).for_each(|_| call(&second, Failed));
    assert_eq!(second.state(), State::Closed);
    assert_eq!(told.lock().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn its_policy_changes_while_it_works_and_zero_is_never() {
    let never = BreakerPolicy {
        failures_max: 0,
        rate_percent: 0,
        ..policy()
    };
    let (breaker, _) = breaker(never);
    (0..1_000).for_each(|_| call(&breaker, Failed));
    assert_eq!(breaker.state(), State::Closed);
    breaker.set_policy(policy());
    call(&breaker, Failed);
    assert_eq!(breaker.state(), State::Open);
}

fn grpc(frames: Vec<Result<Frame<Bytes>, std::io::Error>>) -> super::super::testing::Line {
    let body = Body::new(StreamBody::new(futures::stream::iter(frames)));
    let response = Response::builder().header("content-type", "application/grpc");
    (Duration::ZERO, Ok(response.body(body).unwrap()))
}

fn trailers(code: &'static str) -> Frame<Bytes> {
    let status = ("grpc-status", HeaderValue::from_static(code));
    let status = [(status.0.parse().unwrap(), status.1)];
    Frame::trailers(HeaderMap::from_iter(status))
}

#[tokio::test(start_paused = true)]
async fn grpc_is_judged_by_its_trailers_and_a_broken_body_is_a_failure() {
    let two = BreakerPolicy {
        failures_max: 2,
        ..policy()
    };
    let (of_grpc, _) = breaker(two);
    let layer = CircuitBreaker::new(of_grpc.clone());
    let data = || Ok(Frame::data(Bytes::from_static(b"x")));
    let script = Script::new([
        grpc(vec![data(), Ok(trailers("14"))]),
        grpc(vec![data(), Ok(trailers("0"))]),
        grpc(vec![data(), Ok(trailers("14"))]),
        grpc(vec![data(), Err(std::io::Error::other("cut"))]),
    ]);
    for _ in 0..4 {
        assert_eq!(of_grpc.state(), State::Closed);
        let answer = layer.around(get("/"), &script).await.unwrap();
        drop(http_body_util::BodyExt::collect(answer.into_body()).await);
    }
    assert_eq!(of_grpc.state(), State::Open);
    let error = layer.around(get("/"), &script).await.unwrap_err();
    assert_eq!(error.code(), "circuit_open");
    assert_eq!(script.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_its_deadline_cuts_off_has_failed_and_one_given_up_has_not() {
    let (breaker, _) = breaker(policy());
    let layer = CircuitBreaker::new(breaker.clone());
    let script = Script::hanging();
    for _ in 0..20 {
        let given_up = timeout(SECOND, layer.around(get("/"), &script)).await;
        assert!(given_up.is_err());
    }
    assert_eq!(breaker.state(), State::Closed);
    let deadline = super::super::Deadline::new(SECOND);
    for _ in 0..5 {
        let stack = super::super::Over(&layer, ScriptRef(&script));
        deadline.around(get("/"), &stack).await.unwrap_err();
    }
    assert_eq!(breaker.state(), State::Open);

    let (breaker, _) = self::breaker(policy());
    let layer = CircuitBreaker::new(breaker.clone());
    let script = Script::new([status(503), ok()]);
    layer.around(get("/"), &script).await.unwrap();
    text(layer.around(get("/"), &script).await.unwrap()).await;
    assert_eq!(breaker.state(), State::Closed);
}

struct ScriptRef<'a>(&'a Script);

impl super::super::Next for ScriptRef<'_> {
    async fn call(&self, request: http::Request<Body>) -> trunkline_core::Result<Response<Body>> {
        self.0.call(request).await
    }
}
