use std::collections::HashMap;
use std::time::Duration;

use tokio::time::advance;
use trunkline_core::ErrorKind;

use super::*;
use crate::Body;
use crate::discovery::Instance;
use trunkline_core::Env;

fn at(port: u16) -> Instance {
    Instance::at("h", port).unwrap()
}

fn pool_with(balance: Balance, list: Vec<Instance>) -> Arc<Pool> {
    let pool = Arc::new(Pool::new("there", balance, Env::seeded(7)));
    pool.update(list);
    pool
}

fn pool(ports: impl IntoIterator<Item = u16>) -> Arc<Pool> {
    pool_with(Balance::default(), ports.into_iter().map(at).collect())
}

fn port(held: &Held) -> u16 {
    held.member().authority().port_u16().unwrap()
}

fn choose(pool: &Arc<Pool>) -> Held {
    pool.choose(&Ask::default()).unwrap()
}

/// So many calls of a millisecond, one after the other: how many each port got and answered well.
async fn calls(pool: &Arc<Pool>, count: usize, fails: impl Fn(u16) -> bool) -> HashMap<u16, usize> {
    let mut got = HashMap::new();
    for _ in 0..count {
        let mut held = choose(pool);
        advance(Duration::from_millis(1)).await;
        held.tell(fails(port(&held)));
        *got.entry(port(&held)).or_default() += 1;
    }
    got
}

#[tokio::test(start_paused = true)]
async fn even_instances_get_even_shares_and_uneven_ones_by_weight() {
    let got = calls(&pool(1..=4), 8_000, |_| false).await;
    for share in got.values() {
        assert!((1_600..2_400).contains(share), "{got:?}");
    }
    let weighted = vec![at(1), at(2).with_weight(3)];
    let got = calls(&pool_with(Balance::default(), weighted), 8_000, |_| false).await;
    assert!((5_600..6_400).contains(&got[&2]), "{got:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_instance_gets_less_and_still_some() {
    let pool = pool([1, 2, 3]);
    let mut slow = 0;
    for _ in 0..3_000 {
        let mut held = choose(&pool);
        let is_slow = port(&held) == 1;
        slow += usize::from(is_slow);
        advance(Duration::from_millis(if is_slow { 50 } else { 1 })).await;
        held.tell(false);
    }
    assert!((10..300).contains(&slow), "{slow}");
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_counts() {
    let pool = pool([1, 2]);
    let held: Vec<_> = (0..100).map(|_| choose(&pool)).collect();
    let first = held.iter().filter(|held| port(held) == 1).count();
    assert!((45..=55).contains(&first), "{first}");
    drop(held);
    assert!(pool.members().iter().all(|member| member.in_flight() == 0));
}

#[tokio::test(start_paused = true)]
async fn who_fails_five_times_is_out_for_longer_each_time_and_comes_back_well() {
    let pool = pool([1, 2, 3, 4]);
    let got = calls(&pool, 4_000, |port| port == 1).await;
    assert_eq!((got[&1], pool.ejected()), (5, 1));
    // Each time it comes back, its first call decides.
    advance(Duration::from_secs(12)).await;
    let got = calls(&pool, 4_000, |port| port == 1).await;
    assert_eq!((got[&1], pool.ejected()), (1, 1));
    advance(Duration::from_secs(12)).await;
    assert_eq!(pool.ejected(), 1, "the second time it takes twice as long");
    advance(Duration::from_secs(12)).await;
    assert_eq!(pool.ejected(), 0);
    advance(Duration::from_secs(60)).await;
    let got = calls(&pool, 4_000, |_| false).await;
    assert!(got[&1] > 600, "{got:?}");
}

#[tokio::test(start_paused = true)]
async fn a_share_of_failures_where_others_have_none_is_a_reason_too() {
    let pool = pool([1, 2]);
    let mut had = 0_u32;
    for _ in 0..20_000 {
        let mut held = choose(&pool);
        advance(Duration::from_millis(1)).await;
        let is_bad = port(&held) == 1;
        had += u32::from(is_bad);
        // Three of four, so never five in a row.
        held.tell(is_bad && !had.is_multiple_of(4));
    }
    assert_eq!(pool.ejected(), 1);
}

#[tokio::test(start_paused = true)]
async fn never_more_than_half_are_out_and_a_single_one_never() {
    for count in 1..=9_u16 {
        let pool = pool(1..=count);
        calls(&pool, 500, |_| true).await;
        assert_eq!(pool.ejected(), usize::from(count / 2), "of {count}");
    }
    let all = Ejection {
        ejected_share_max: 7.0,
        ..Ejection::default()
    };
    let pool = pool_with(Balance::default().with_ejection(all), vec![at(1), at(2)]);
    calls(&pool, 500, |_| true).await;
    assert_eq!(pool.ejected(), 1, "somebody is left whatever is asked for");
}

#[tokio::test(start_paused = true)]
async fn a_shorter_list_lets_the_ejected_back_in() {
    let pool = pool(1..=4);
    calls(&pool, 500, |port| port <= 2).await;
    assert_eq!(pool.ejected(), 2);
    pool.update(vec![at(1), at(2), at(3)]);
    assert_eq!(pool.ejected(), 1);
    pool.update(vec![at(1)]);
    assert_eq!(pool.ejected(), 0);
    assert_eq!(port(&choose(&pool)), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_an_instance_stays_while_it_is_listed() {
    let pool = pool([1, 2]);
    let state = |index: usize| pool.members()[index].state(|| 0_u32).copied();
    pool.members()[0].state(|| 7_u32);
    assert_eq!(pool.members()[0].state(|| "another type"), None);
    pool.update(vec![at(1).with_weight(5), at(3)]);
    assert_eq!((state(0), state(1)), (Some(7), Some(0)));
    pool.update(vec![at(3)]);
    pool.update(vec![at(1), at(3)]);
    assert_eq!(state(0), Some(0), "it begins anew");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_left_gets_nothing() {
    let pool = pool(1..=3);
    pool.update(vec![at(2), at(3)]);
    let got = calls(&pool, 200, |_| false).await;
    assert!(!got.contains_key(&1), "{got:?}");
    pool.update(Vec::new());
    let error = pool.choose(&Ask::default()).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Unavailable, "service_unreachable")
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_stays_where_it_is_while_there_is_room() {
    let pool = pool(1..=5);
    let ask = |key: &'static str| Ask {
        key: Some(key.as_bytes()),
        ..Ask::default()
    };
    let mut used = std::collections::HashSet::new();
    for key in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        let homes: std::collections::HashSet<_> = (0..20)
            .map(|_| port(&pool.choose(&ask(key)).unwrap()))
            .collect();
        assert_eq!(homes.len(), 1, "{key}");
        used.extend(homes);
    }
    assert!(used.len() >= 3, "{used:?}");
    // One key for everybody: nobody has more than a quarter above its share.
    let held: Vec<_> = (0..100)
        .map(|_| pool.choose(&ask("hot")).unwrap())
        .collect();
    for member in pool.members() {
        assert!(member.in_flight() <= 25, "{member:?}");
    }
    drop(held);
    // When its instance is out, the key goes on to the next, and comes back.
    let home = port(&pool.choose(&ask("a")).unwrap());
    pool.update((1..=5).filter(|port| *port != home).map(at).collect());
    assert_ne!(port(&pool.choose(&ask("a")).unwrap()), home);
    pool.update((1..=5).map(at).collect());
    assert_eq!(port(&pool.choose(&ask("a")).unwrap()), home);
}

#[tokio::test(start_paused = true)]
async fn what_was_tried_and_what_is_not_admitted_is_passed_over() {
    let pool = pool([1, 2]);
    let avoid = Avoid::new();
    avoid.add(&at(1).authority);
    let ask = Ask {
        avoid: Some(&avoid),
        ..Ask::default()
    };
    assert!((0..50).all(|_| port(&pool.choose(&ask).unwrap()) == 2));
    avoid.add(&at(2).authority);
    assert!(pool.choose(&ask).is_ok(), "rather again than not at all");
    let refuses = |member: &Member| member.authority().port_u16() != Some(2);
    let ask = Ask {
        admits: Some(&refuses),
        ..Ask::default()
    };
    assert!((0..50).all(|_| port(&pool.choose(&ask).unwrap()) == 1));
    let none = |_: &Member| false;
    let ask = Ask {
        admits: Some(&none),
        ..Ask::default()
    };
    assert_eq!(pool.choose(&ask).unwrap_err().code(), "instances_refused");
}

#[tokio::test(start_paused = true)]
async fn who_lets_the_deadline_pass_has_failed_and_who_was_given_up_has_not() {
    let pool = pool([1, 2]);
    let mut given_up = 0;
    while pool.ejected() == 0 {
        let until = tokio::time::Instant::now() + Duration::from_millis(10);
        let held = choose(&pool).until(Some(until));
        let mut held = Some(held);
        if held.as_ref().map(port) == Some(1) {
            advance(Duration::from_millis(10)).await;
            drop(held.take());
        } else {
            advance(Duration::from_millis(5)).await;
            drop(held.take());
            given_up += 1;
        }
        assert!(given_up < 1_000);
    }
    let left = choose(&pool);
    assert_eq!(port(&left), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_in_flight_until_its_body_has_ended_and_trailers_count() {
    let pool = pool([1]);
    let member = pool.members().remove(0);
    let answer = choose(&pool).answered(http::Response::new(Body::from("x")));
    assert_eq!(member.in_flight(), 1);
    let read = http_body_util::BodyExt::collect(answer.into_body())
        .await
        .unwrap();
    assert_eq!((&*read.to_bytes(), member.in_flight()), (&b"x"[..], 0));
    let empty = choose(&pool).answered(http::Response::new(Body::empty()));
    assert_eq!(member.in_flight(), 0);
    drop(empty);
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", "14".parse().unwrap());
    let frames = [Ok::<_, std::convert::Infallible>(
        http_body::Frame::<Bytes>::trailers(trailers),
    )];
    let body = Body::new(http_body_util::StreamBody::new(futures::stream::iter(
        frames,
    )));
    let answer = choose(&pool).answered(http::Response::new(body));
    drop(http_body_util::BodyExt::collect(answer.into_body()).await);
    assert_eq!(
        member.failures.load(std::sync::atomic::Ordering::Relaxed),
        1
    );
}
