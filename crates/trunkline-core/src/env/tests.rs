use std::collections::BTreeSet;
use std::time::Duration;

use super::*;

#[test]
fn the_same_seed_repeats_itself_and_another_differs() {
    let draw = |seed| {
        let env = Env::seeded(seed);
        (env.random_u64(), env.random_u128(), env.id(), env.now())
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7).2, draw(8).2);
}

#[test]
fn seeded_bytes_never_change_between_releases() {
    // The reference output of SplitMix64 for seed 0.
    let env = Env::seeded(0);
    assert_eq!(env.random_u64(), 0xe220_a839_7b1d_cdaf);
    assert_eq!(env.random_u64(), 0x6e78_9e6a_a1b9_65f4);
}

#[test]
fn the_clock_moves_only_when_told() {
    let (env, clock) = Env::manual(1);
    let start = env.now();
    assert_eq!(start.to_string(), "2026-01-01T00:00:00Z");
    clock.advance(Duration::from_millis(1500));
    assert_eq!(env.now().to_string(), "2026-01-01T00:00:01.5Z");
    clock.set(Timestamp::MAX);
    clock.advance(Duration::from_secs(1));
    assert_eq!(env.now(), Timestamp::MAX);
    assert_eq!(env.after(Duration::MAX), Timestamp::MAX);
}

#[test]
fn ids_rise_while_the_clock_stands_and_when_it_steps_back() {
    let (env, clock) = Env::manual(1);
    let mut last = env.id();
    for round in 0..10_000 {
        if round == 5_000 {
            clock.set(Timestamp::UNIX_EPOCH);
        }
        let next = env.id();
        assert!(next > last, "{next} after {last}");
        assert_eq!(next.get_version_num(), 7);
        last = next;
    }
}

#[test]
fn an_id_tells_its_time() {
    let (env, clock) = Env::manual(1);
    clock.advance(Duration::from_millis(86_400_123));
    let (seconds, nanos) = env.id().get_timestamp().unwrap().to_unix();
    let stamp = Timestamp::new(i64::try_from(seconds).unwrap(), 0).unwrap();
    assert_eq!(stamp.to_string(), "2026-01-02T00:00:00Z");
    assert_eq!(nanos / 1_000_000, 123);
}

#[test]
fn ids_of_all_threads_and_copies_differ_and_rise_in_each() {
    let ids: Vec<Vec<uuid::Uuid>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..5_000).map(|_| Env::system().id()).collect()))
            .collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap())
            .collect()
    });
    for of_thread in &ids {
        assert!(of_thread.is_sorted());
    }
    // The time and counter alone are unique: it is not left to the random bits.
    let ticks: BTreeSet<u128> = ids.iter().flatten().map(|id| id.as_u128() >> 64).collect();
    assert_eq!(ticks.len(), 20_000);
}

#[test]
fn random_fractions_stay_below_one_and_spread() {
    let env = Env::seeded(3);
    let draws: Vec<f64> = (0..1_000).map(|_| env.random_f64()).collect();
    assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
    let mean = draws.iter().sum::<f64>() / 1_000.0;
    assert!((0.45..0.55).contains(&mean), "{mean}");
}

#[test]
fn random_bytes_fill_every_length() {
    let env = Env::seeded(3);
    let mut bytes = [0_u8; 31];
    env.random_bytes(&mut bytes);
    assert!(bytes.iter().filter(|byte| **byte == 0).count() < 5);
    assert!(bytes[24..].iter().any(|byte| *byte != 0));
}
