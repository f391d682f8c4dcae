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
async fn a_call_is_in_flight_until_its_body_has_ended() {
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
}
