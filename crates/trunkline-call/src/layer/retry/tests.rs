//! What is tried again, how often, and what it costs.

use std::time::Duration;

use http::Method;
use trunkline_core::{Error, ErrorKind};

use super::super::CallOptions;
use super::super::plan::Times;
use super::super::testing::{Script, fails, get, ok, status, with};
use super::*;
use crate::policy::{BudgetPolicy, GrpcCodes};

const SECOND: Duration = Duration::from_secs(1);

fn budget(percent: u32, saved_max: u32) -> Arc<Budget> {
    Arc::new(Budget::new(BudgetPolicy {
        percent,
        per_second: 0,
        saved_max,
    }))
}

fn retry() -> Retry {
    Retry::new(Policy::default(), budget(10, 100), Env::seeded(1))
}

fn post(headers: &[(&'static str, &'static str)]) -> Request<Body> {
    let mut request = Request::post("/orders");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from("{\"a\":1}")).unwrap()
}

/// How often a request is sent to a target that always answers so.
async fn sent(request: Request<Body>, line: impl Fn() -> super::super::testing::Line) -> usize {
    let script = Script::new((0..9).map(|_| line()));
    drop(retry().around(request, &script).await);
    script.calls()
}

#[tokio::test(start_paused = true)]
async fn what_is_safe_is_tried_three_times_with_its_body_and_what_is_not_once() {
    let script = Script::new([status(503), status(502), ok()]);
    let keyed = post(&[("idempotency-key", "k-1")]);
    let answer = retry().around(keyed, &script).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(!answer.headers().contains_key("x-trunkline-retried"));
    let bodies: Vec<_> = script.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, ["{\"a\":1}"; 3]);

    assert_eq!(sent(get("/"), || status(504)).await, 3);
    assert_eq!(sent(get("/"), || status(429)).await, 3);
    assert_eq!(sent(get("/"), || status(500)).await, 1);
    assert_eq!(sent(get("/"), || status(404)).await, 1);
    assert_eq!(sent(post(&[]), || status(503)).await, 1);
    let mut declared = post(&[]);
    Plan::put(Policy::default(), {
        CallOptions::new().idempotent().put(&mut declared);
        &mut declared
    });
    assert_eq!(sent(declared, || status(503)).await, 3);
    let mut once = get("/");
    Plan::put(Policy::default(), {
        CallOptions::new().no_retry().put(&mut once);
        &mut once
    });
    assert_eq!(sent(once, || status(503)).await, 1);
}

#[tokio::test(start_paused = true)]
async fn the_class_of_a_failure_decides_where_it_is_told() {
    let told = |class: &'static str| with(503, &[("x-trunkline-retry", class)]);
    assert_eq!(sent(post(&[]), || told("transient")).await, 3);
    assert_eq!(sent(post(&[]), || told("unknown")).await, 1);
    assert_eq!(sent(get("/"), || told("unknown")).await, 3);
    assert_eq!(sent(get("/"), || told("permanent")).await, 1);
    let unreached = |class| fails(Error::unavailable("gone", "not there").with_retry(class));
    assert_eq!(sent(post(&[]), || unreached(Class::Transient)).await, 3);
    assert_eq!(sent(post(&[]), || unreached(Class::Unknown)).await, 1);
    assert_eq!(sent(get("/"), || unreached(Class::Unknown)).await, 3);
    assert_eq!(
        sent(get("/"), || fails(Error::internal("a panic"))).await,
        1
    );
}

#[tokio::test(start_paused = true)]
async fn grpc_is_tried_again_by_its_status() {
    let grpc = |code: &'static str| {
        with(
            200,
            &[("content-type", "application/grpc"), ("grpc-status", code)],
        )
    };
    let keyed = || {
        post(&[
            ("idempotency-key", "k"),
            ("content-type", "application/grpc"),
        ])
    };
    assert_eq!(sent(keyed(), || grpc("14")).await, 3);
    assert_eq!(sent(keyed(), || grpc("8")).await, 3);
    assert_eq!(sent(keyed(), || grpc("13")).await, 1);
    assert_eq!(sent(keyed(), || grpc("5")).await, 1);
    assert_eq!(
        sent(post(&[("content-type", "application/grpc")]), || grpc("14")).await,
        1
    );
    let pushed = || {
        let (takes, mut answer) = grpc("14");
        let said = answer.as_mut().unwrap().headers_mut();
        said.insert("grpc-retry-pushback-ms", HeaderValue::from_static("-1"));
        (takes, answer)
    };
    assert_eq!(sent(keyed(), pushed).await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_tried_further_down_is_not_tried_again_and_what_failed_here_says_so() {
    let below = || with(503, &[("x-trunkline-retried", "3")]);
    assert_eq!(sent(get("/"), below).await, 1);
    for code in ["circuit_open", "bulkhead_full"] {
        assert_eq!(
            sent(get("/"), || fails(Error::unavailable(code, "no"))).await,
            1
        );
    }
    let script = Script::new((0..3).map(|_| status(503)));
    let answer = retry().around(get("/"), &script).await.unwrap();
    assert_eq!(answer.headers()["x-trunkline-retried"], "3");

    // Through a handler that makes an error of its own of it, and the problem that this becomes.
    let gone = || fails(Error::unavailable("gone", "not there"));
    let script = Script::new((0..3).map(|_| gone()));
    let error = retry().around(get("/"), &script).await.unwrap_err();
    let own = Error::unavailable("stock_unknown", "not now").with_source(error);
    let problem = crate::problem::response(&own, None);
    assert_eq!(problem.headers()["x-trunkline-retried"], "3");
    let again = crate::problem::parse(problem.status(), problem.headers(), b"");
    assert_eq!(headers::attempts_of(&again), Some(3));
}

#[tokio::test(start_paused = true)]
async fn an_empty_budget_ends_it_and_says_that_it_was_tried() {
    let layer = Retry::new(Policy::default(), budget(10, 10), Env::seeded(1));
    let mut calls = 0;
    for _ in 0..1_000 {
        let script = Script::new((0..3).map(|_| status(503)));
        let answer = layer.around(get("/"), &script).await.unwrap();
        assert!(answer.headers().contains_key("x-trunkline-retried"));
        calls += script.calls();
    }
    assert!((1_100..=1_110).contains(&calls), "{calls}");
}

#[tokio::test(start_paused = true)]
async fn a_pause_waits_as_asked_within_the_deadline_and_what_is_left_travels() {
    let script = Script::new([with(503, &[("retry-after", "2")]), ok()]);
    let mut request = get("/");
    let deadline = Instant::now() + SECOND * 5;
    request.extensions_mut().insert(Plan {
        policy: Policy::default(),
        times: Times::until(deadline),
    });
    let began = Instant::now();
    retry().around(request, &script).await.unwrap();
    let took = began.elapsed();
    assert!(took >= SECOND * 2 && took < SECOND * 5 / 2, "{took:?}");
    let left = &script.seen()[1].headers["x-trunkline-deadline-ms"];
    let left: u64 = left.to_str().unwrap().parse().unwrap();
    assert!((2_700..=3_000).contains(&left), "{left}");

    let script = Script::new([with(503, &[("retry-after", "60")])]);
    let mut request = get("/");
    request.extensions_mut().insert(Plan {
        policy: Policy::default(),
        times: Times::until(Instant::now() + SECOND * 5),
    });
    let began = Instant::now();
    let answer = retry().around(request, &script).await.unwrap();
    assert!(
        began.elapsed().is_zero(),
        "nobody waits for what comes too late"
    );
    assert!(!answer.headers().contains_key("x-trunkline-retried"));
}

#[tokio::test(start_paused = true)]
async fn a_body_beyond_the_bound_is_sent_once() {
    let long = Body::from(vec![b'x'; REPLAY_BYTES_MAX + 1]);
    let mut request = Request::new(long);
    *request.method_mut() = Method::PUT;
    let script = Script::new([status(503)]);
    let answer = retry().around(request, &script).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(script.seen()[0].body.len(), REPLAY_BYTES_MAX + 1);
    assert_eq!(script.seen()[0].method, Method::PUT);
    assert_eq!(
        Outcome::of_error(&Error::new(ErrorKind::Conflict, "c", "m")),
        Outcome::Answered
    );
}

#[tokio::test(start_paused = true)]
async fn named_codes_are_tried_again_whatever_the_method_and_no_others() {
    let grpc = |code: &'static str| {
        with(
            200,
            &[("content-type", "application/grpc"), ("grpc-status", code)],
        )
    };
    let named = Policy {
        retry_codes: Some(GrpcCodes::of([10, 14])),
        ..Policy::default()
    };
    let aborted = Error::new(ErrorKind::DeadlineExceeded, "late", "too late");
    let cases = [
        (grpc("10"), 2),
        (grpc("14"), 2),
        (status(503), 2),
        (fails(Error::unavailable("gone", "not there")), 2),
        (grpc("8"), 1),
        (grpc("13"), 1),
        (fails(aborted), 1),
        (with(503, &[("x-trunkline-retried", "3")]), 1),
        (
            with(
                200,
                &[("grpc-status", "14"), ("grpc-retry-pushback-ms", "never")],
            ),
            1,
        ),
    ];
    for (at, (line, attempts)) in cases.into_iter().enumerate() {
        let script = Script::new([line, ok()]);
        let budget = Arc::new(Budget::new(Default::default()));
        let retry = Retry::new(named, budget, Env::seeded(1));
        let request = http::Request::post("/a.B/C").body(Body::from("x")).unwrap();
        drop(retry.around(request, &script).await);
        assert_eq!(script.calls(), attempts, "case {at}");
    }
}

/// What each attempt has besides its headers.
struct Besides<'a>(&'a Script, parking_lot::Mutex<Vec<(u32, Option<char>)>>);

impl Next for Besides<'_> {
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>> {
        let all = request.extensions();
        let plan: &Plan = all.get().unwrap();
        let seen = (plan.policy.attempts_max, all.get().copied());
        self.1.lock().push(seen);
        self.0.call(request).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_attempt_has_its_plan_and_what_the_request_had_besides() {
    for mark in [None, Some('x')] {
        let script = Script::new([status(503), status(503), ok()]);
        let besides = Besides(&script, parking_lot::Mutex::default());
        let mut request = get("/");
        if let Some(mark) = mark {
            request.extensions_mut().insert(mark);
        }
        let policy = Policy {
            attempts_max: 7,
            ..Policy::default()
        };
        Plan::put(policy, &mut request);
        retry().around(request, &besides).await.unwrap();
        assert_eq!(*besides.1.lock(), [(7, mark); 3]);
    }
}
