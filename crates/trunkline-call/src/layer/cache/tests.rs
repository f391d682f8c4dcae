//! What is kept, for whom, and for how long.

use http::HeaderName;
use tokio::time::advance;
use trunkline_core::Error;

use super::super::testing::{Line, Script, after, fails, get, ok, status, text, with};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn cache(fallback: Duration) -> Cache {
    let policy = Policy {
        fallback_age_max: fallback,
        ..Policy::default()
    };
    Cache::new(policy, 1024 * 1024)
}

fn by(user: &'static str) -> Request<Body> {
    let mut request = get("/items?a=1");
    if !user.is_empty() {
        let value = HeaderValue::from_static(user);
        request.headers_mut().insert("x-user-id", value);
    }
    request
}

/// Asks, and reads the answer to its end.
async fn ask(cache: &Cache, request: Request<Body>, script: &Script) -> Response<Body> {
    let answer = cache.around(request, script).await.unwrap();
    let (parts, body) = answer.into_parts();
    let text = text(Response::new(body)).await;
    Response::from_parts(parts, Body::from(text))
}

/// How often the target is asked when the same is read twice.
async fn asked_twice(line: impl Fn() -> Line) -> usize {
    let cache = cache(Duration::ZERO);
    let script = Script::new([line(), line()]);
    for _ in 0..2 {
        ask(&cache, by("ann"), &script).await;
    }
    script.calls()
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_given_again_while_it_is_good_and_tells_its_age() {
    let cache = cache(Duration::ZERO);
    let kept = || {
        with(
            200,
            &[
                ("cache-control", "max-age=60"),
                ("x-request-id", "r-1"),
                ("age", "10"),
            ],
        )
    };
    let script = Script::new([kept(), kept()]);
    ask(&cache, by("ann"), &script).await;
    advance(SECOND * 20).await;
    let again = ask(&cache, by("ann"), &script).await;
    assert_eq!(script.calls(), 1);
    assert_eq!(again.headers()["age"], "30");
    assert_eq!(again.headers()["cache-status"], "trunkline; hit; ttl=30");
    assert!(!again.headers().contains_key("x-request-id"));
    let age = Age {
        age: SECOND * 30,
        is_fallback: false,
    };
    assert_eq!(again.extensions().get(), Some(&age));
    assert_eq!(text(again).await, "[1]");
    advance(SECOND * 30).await;
    ask(&cache, by("ann"), &script).await;
    assert_eq!(script.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_kept_is_not() {
    let said = |control: &'static str| move || with(200, &[("cache-control", control)]);
    assert_eq!(asked_twice(said("max-age=60")).await, 1);
    assert_eq!(asked_twice(said("public, max-age=60")).await, 1);
    for control in [
        "no-store, max-age=60",
        "private, max-age=60",
        "no-cache",
        "max-age=0",
        "x",
    ] {
        assert_eq!(asked_twice(said(control)).await, 2, "{control}");
    }
    assert_eq!(asked_twice(ok).await, 2);
    let more = |name: &'static str, value: &'static str| {
        move || with(200, &[("cache-control", "max-age=60"), (name, value)])
    };
    assert_eq!(
        asked_twice(more("vary", "Accept, accept-language")).await,
        1
    );
    assert_eq!(asked_twice(more("vary", "*")).await, 2);
    assert_eq!(asked_twice(more("vary", "x-tenant")).await, 2);
    assert_eq!(asked_twice(more("set-cookie", "a=b")).await, 2);
    assert_eq!(
        asked_twice(|| with(404, &[("cache-control", "max-age=60")])).await,
        2
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_anothers_answer_unless_it_is_public() {
    let kept = || with(200, &[("cache-control", "max-age=60")]);
    let cache = cache(Duration::ZERO);
    let script = Script::new((0..4).map(|_| kept()));
    for user in ["ann", "bob", "", "ann", "bob", ""] {
        ask(&cache, by(user), &script).await;
    }
    assert_eq!(script.calls(), 3);
    let mut token = by("ann");
    token
        .headers_mut()
        .insert("authorization", HeaderValue::from_static("Bearer x"));
    ask(&cache, token, &script).await;
    assert_eq!(script.calls(), 4);

    let cache = self::cache(Duration::ZERO);
    let public = with(200, &[("cache-control", "public, max-age=60")]);
    let script = Script::new([public]);
    for user in ["ann", "bob", ""] {
        ask(&cache, by(user), &script).await;
    }
    assert_eq!(script.calls(), 1);

    let varies = || {
        with(
            200,
            &[("cache-control", "public, max-age=60"), ("vary", "Cookie")],
        )
    };
    let cache = self::cache(Duration::ZERO);
    let script = Script::new([varies(), varies()]);
    for user in ["ann", "bob"] {
        ask(&cache, by(user), &script).await;
    }
    assert_eq!(script.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_form_that_is_asked_for_is_its_own_and_who_insists_is_answered_anew() {
    let kept = || with(200, &[("cache-control", "max-age=60")]);
    let cache = cache(Duration::ZERO);
    let script = Script::new((0..4).map(|_| kept()));
    let asking = |name: HeaderName, value: &'static str| {
        let mut request = by("ann");
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
        request
    };
    ask(&cache, by("ann"), &script).await;
    ask(&cache, asking(http::header::ACCEPT_LANGUAGE, "tr"), &script).await;
    assert_eq!(script.calls(), 2);
    ask(&cache, asking(CACHE_CONTROL, "no-cache"), &script).await;
    ask(&cache, asking(CACHE_CONTROL, "no-store"), &script).await;
    assert_eq!(script.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_has_a_tag_is_asked_whether_it_changed() {
    let cache = cache(Duration::ZERO);
    let tagged = with(200, &[("cache-control", "no-cache"), ("etag", "\"7\"")]);
    let same = with(304, &[("cache-control", "max-age=5")]);
    let script = Script::new([tagged, same]);
    ask(&cache, by("ann"), &script).await;
    let second = ask(&cache, by("ann"), &script).await;
    assert_eq!(script.seen()[1].headers["if-none-match"], "\"7\"");
    assert_eq!(
        (second.status().as_u16(), text(second).await),
        (200, "[1]".to_owned())
    );
    ask(&cache, by("ann"), &script).await;
    assert_eq!(
        script.calls(),
        2,
        "good again for what the last answer said"
    );
}

#[tokio::test(start_paused = true)]
async fn an_older_answer_stands_in_for_a_target_that_fails_and_says_so() {
    let cache = cache(SECOND * 100);
    let gone = || fails(Error::unavailable("gone", "not there"));
    let script = Script::new([ok(), gone(), status(503), gone()]);
    ask(&cache, by("ann"), &script).await;
    advance(SECOND * 40).await;
    for _ in 0..2 {
        let stale = ask(&cache, by("ann"), &script).await;
        assert_eq!(stale.status(), 200);
        assert_eq!(stale.headers()["age"], "40");
        assert_eq!(stale.headers()["cache-status"], "trunkline; hit; ttl=-40");
        assert!(stale.extensions().get::<Age>().unwrap().is_fallback);
    }
    advance(SECOND * 61).await;
    let error = cache.around(by("ann"), &script).await.unwrap_err();
    assert_eq!(error.code(), "gone");
    let stranger = Script::new([gone()]);
    cache.around(by("bob"), &stranger).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_is_stood_in_for_before_the_deadline_and_one_that_forbids_it_is_not() {
    let cache = cache(SECOND * 100);
    let script = Script::new([ok(), after(SECOND * 60, ok())]);
    ask(&cache, by("ann"), &script).await;
    let mut request = by("ann");
    request.extensions_mut().insert(Plan {
        policy: cache.own,
        times: Times::until(Instant::now() + SECOND),
    });
    let began = Instant::now();
    let stale = cache.around(request, &script).await.unwrap();
    assert!(stale.extensions().get::<Age>().unwrap().is_fallback);
    assert_eq!(began.elapsed(), SECOND - SECOND / 10);

    for control in ["no-cache", "max-age=1, must-revalidate"] {
        let cache = self::cache(SECOND * 100);
        let kept = with(200, &[("cache-control", control), ("etag", "\"1\"")]);
        let script = Script::new([kept, status(503)]);
        ask(&cache, by("ann"), &script).await;
        advance(SECOND * 2).await;
        let answer = ask(&cache, by("ann"), &script).await;
        assert_eq!(answer.status(), 503, "{control}");
    }
    // The target itself may allow it.
    let cache = self::cache(Duration::ZERO);
    let kept = with(200, &[("cache-control", "max-age=1, stale-if-error=10")]);
    let script = Script::new([kept, status(503), status(503)]);
    ask(&cache, by("ann"), &script).await;
    advance(SECOND * 11).await;
    assert_eq!(ask(&cache, by("ann"), &script).await.status(), 200);
    advance(SECOND).await;
    assert_eq!(ask(&cache, by("ann"), &script).await.status(), 503);
}

#[tokio::test(start_paused = true)]
async fn a_change_forgets_and_what_is_kept_is_bounded() {
    let kept = || with(200, &[("cache-control", "max-age=60")]);
    let cache = cache(Duration::ZERO);
    let script = Script::new([kept(), kept(), ok(), kept(), kept()]);
    ask(&cache, by("ann"), &script).await;
    ask(&cache, by("bob"), &script).await;
    let change = Request::delete("/items").body(Body::empty()).unwrap();
    ask(&cache, change, &script).await;
    ask(&cache, by("ann"), &script).await;
    ask(&cache, by("bob"), &script).await;
    assert_eq!(script.calls(), 5);

    // Room for two of these.
    cache.set_bytes_max(700);
    let script = Script::new((0..5).map(|_| kept()));
    for path in ["/1", "/2", "/1", "/3", "/1", "/2"] {
        ask(&cache, get(path), &script).await;
    }
    assert_eq!(
        script.calls(),
        4,
        "the one that was not asked for the longest went"
    );
    cache.set_bytes_max(0);
    ask(&cache, get("/1"), &script).await;
    assert_eq!(script.calls(), 5);
}
