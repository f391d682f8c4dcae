use std::collections::BTreeMap;

use super::super::health::{Rules, Said};
use super::*;
use crate::config::Checks;

fn picker(algorithm: Algorithm, weights: &[u16]) -> Picker {
    picker_of(algorithm, weights, 0.0, 7)
}

fn picker_of(algorithm: Algorithm, weights: &[u16], threshold: f64, seed: u64) -> Picker {
    let target = |(at, weight): (usize, &u16)| (format!("t{at}:1"), *weight, Arc::default());
    let targets: Vec<_> = weights.iter().enumerate().map(target).collect();
    Picker::new(algorithm, &targets, threshold, Env::seeded(seed))
}

/// One failure makes a target sick, one success well.
fn rules() -> Rules {
    Rules::of(&Checks {
        healthy_statuses: vec![200],
        successes: 1,
        unhealthy_statuses: vec![500],
        http_failures: 1,
        tcp_failures: 1,
        timeouts: 1,
    })
}

impl Picker {
    fn say(&self, index: usize, said: Said) {
        if self.targets[index].health.said(said, &rules()).is_some() {
            self.turn();
        }
    }

    fn one(&self) -> Option<usize> {
        self.pick(None, &Tried::default())
    }

    fn shares(&self, count: usize) -> BTreeMap<usize, usize> {
        let mut shares = BTreeMap::new();
        for _ in 0..count {
            *shares.entry(self.one().unwrap()).or_default() += 1;
        }
        shares
    }
}

#[test]
fn turns_are_taken_by_weight_and_evenly_mixed() {
    let picker = picker(Algorithm::RoundRobin, &[100, 300, 0, 200]);
    assert_eq!(picker.shares(600), [(0, 100), (1, 300), (3, 200)].into());
    // Not the heavy one three times in a row.
    let turns: Vec<_> = (0..6).map(|_| picker.one().unwrap()).collect();
    assert!(turns.windows(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
}

#[test]
fn weights_that_have_nothing_in_common_make_no_endless_turn() {
    let picker = picker(Algorithm::RoundRobin, &[65_535, 65_534, 1]);
    assert!(picker.wheel.load().order.len() <= usize::try_from(TURN_MAX).unwrap() + 3);
    let shares = picker.shares(picker.wheel.load().order.len());
    assert!(shares[&0].abs_diff(shares[&1]) <= 1, "{shares:?}");
    assert_eq!(shares[&2], 1);
}

#[test]
fn who_is_sick_gets_nothing_and_comes_back() {
    for algorithm in [
        Algorithm::RoundRobin,
        Algorithm::LeastConnections,
        Algorithm::Latency,
        Algorithm::ConsistentHashing,
    ] {
        let picker = picker(algorithm, &[1, 1, 1]);
        picker.say(1, Said::Nothing);
        let keys = (0..300_u32).map(u32::to_le_bytes);
        let shares: Vec<_> = keys
            .map(|key| picker.pick(Some(&key), &Tried::default()).unwrap())
            .collect();
        assert!(!shares.contains(&1), "{algorithm:?}");
        assert!(shares.contains(&0) && shares.contains(&2), "{algorithm:?}");
        picker.say(0, Said::Late);
        picker.say(2, Said::Status(500));
        assert_eq!(picker.pick(Some(b"x"), &Tried::default()), None);
        assert!(!picker.is_up());
        picker.say(1, Said::Status(200));
        assert_eq!(picker.one(), Some(1), "{algorithm:?}");
    }
}

#[test]
fn the_one_with_the_least_to_do_for_its_weight_is_taken() {
    let picker = picker(Algorithm::LeastConnections, &[1, 2, 1]);
    let work = |index: usize, count| {
        let under_way = &picker.targets[index].under_way;
        under_way.store(count, Ordering::Relaxed);
    };
    work(0, 1);
    work(1, 2);
    work(2, 2);
    // 2 of 1, 3 of 2, 3 of 1.
    assert_eq!(picker.one(), Some(1));
    work(1, 9);
    assert_eq!(picker.one(), Some(0));
    // With the same to do, everybody in turn.
    for index in 0..3 {
        work(index, 0);
    }
    let picker = self::picker(Algorithm::LeastConnections, &[1, 1, 1]);
    assert_eq!(picker.shares(300), [(0, 100), (1, 100), (2, 100)].into());
}

#[tokio::test(start_paused = true)]
async fn the_fast_one_gets_nearly_everything_until_it_is_slow() {
    let picker = picker(Algorithm::Latency, &[1, 1]);
    let answer = async |index: usize, millis| {
        let began = picker.begins(index);
        tokio::time::advance(std::time::Duration::from_millis(millis)).await;
        picker.ended(index, began, false);
    };
    answer(0, 10).await;
    answer(1, 100).await;
    assert_eq!(picker.shares(100), [(0, 100)].into());
    answer(0, 500).await;
    assert_eq!(picker.shares(100), [(1, 100)].into());
    // A failure that is fast is none of speed.
    let began = picker.begins(1);
    picker.ended(1, began, true);
    picker.ended(1, began, true);
    picker.ended(1, began, true);
    assert_eq!(picker.shares(100), [(0, 100)].into());
    // What was slow long ago is tried again.
    tokio::time::advance(std::time::Duration::from_secs(600)).await;
    assert_eq!(picker.shares(100).len(), 2);
}

#[test]
fn what_hashes_the_same_goes_to_the_same_and_moves_only_while_it_is_sick() {
    let picker = picker(Algorithm::ConsistentHashing, &[1, 1, 0, 2]);
    let all = || {
        let keys = (0..2_000_u32).map(u32::to_le_bytes);
        keys.map(|key| picker.pick(Some(&key), &Tried::default()).unwrap())
            .collect::<Vec<_>>()
    };
    let before = all();
    assert_eq!(before, all());
    let share = |index| before.iter().filter(|one| **one == index).count();
    assert_eq!(share(2), 0);
    assert!((350..650).contains(&share(0)), "{}", share(0));
    assert!((800..1_200).contains(&share(3)), "{}", share(3));
    picker.say(0, Said::Nothing);
    for (before, now) in before.iter().zip(all()) {
        assert!(*before == now || *before == 0);
    }
    picker.say(0, Said::Status(200));
    assert_eq!(before, all());
    // Without a key: in turn.
    assert_eq!(picker.shares(400), [(0, 100), (1, 100), (3, 200)].into());
}

#[test]
fn who_tries_again_goes_elsewhere_as_long_as_there_is_somebody() {
    for algorithm in [
        Algorithm::RoundRobin,
        Algorithm::LeastConnections,
        Algorithm::Latency,
        Algorithm::ConsistentHashing,
    ] {
        let picker = picker(algorithm, &[5, 1, 1]);
        for _ in 0..100 {
            let mut tried = Tried::default();
            let mut seen = Vec::new();
            for _ in 0..3 {
                let index = picker.pick(Some(b"key"), &tried).unwrap();
                tried.add(index);
                seen.push(index);
            }
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2], "{algorithm:?}");
            assert!(picker.pick(Some(b"key"), &tried).is_some());
        }
    }
}

#[test]
fn too_few_that_are_healthy_are_none() {
    let picker = picker_of(Algorithm::RoundRobin, &[50, 25, 25], 50.0, 1);
    picker.say(1, Said::Nothing);
    picker.say(2, Said::Nothing);
    assert!(picker.is_up());
    picker.say(0, Said::Nothing);
    picker.say(1, Said::Status(200));
    picker.say(2, Said::Status(200));
    assert!(picker.is_up(), "half of it is enough");
    picker.say(2, Said::Nothing);
    assert_eq!(picker.one(), None, "a quarter is not");
}

/// Targets die and come back at random, under every algorithm: whoever is chosen is healthy as far as is known and has
/// a weight, somebody is chosen whenever somebody is healthy, and the same seed is the same run.
#[tokio::test(start_paused = true)]
async fn a_thousand_runs_choose_nobody_who_is_sick() {
    for seed in 0..1_000 {
        let first = run(seed).await;
        if seed % 100 == 0 {
            assert_eq!(first, run(seed).await, "seed {seed}");
        }
    }
}

async fn run(seed: u64) -> Vec<Option<usize>> {
    let env = Env::seeded(seed);
    let draw = |below: u64| usize::try_from(env.random_u64() % below).unwrap();
    let algorithm = [
        Algorithm::RoundRobin,
        Algorithm::LeastConnections,
        Algorithm::Latency,
        Algorithm::ConsistentHashing,
    ][draw(4)];
    let weights: Vec<u16> = (0..=draw(6)).map(|_| [0, 1, 7, 100][draw(4)]).collect();
    let picker = picker_of(algorithm, &weights, 0.0, seed);
    let mut is_alive = vec![true; weights.len()];
    let mut known = is_alive.clone();
    let mut log = Vec::new();
    for _ in 0..60 {
        let one = draw(weights.len() as u64);
        is_alive[one] = draw(3) > 0;
        // What an active check finds out.
        if draw(4) == 0 {
            let said = if is_alive[one] {
                Said::Status(200)
            } else {
                Said::Late
            };
            picker.say(one, said);
            known[one] = is_alive[one];
        }
        let key = draw(9).to_le_bytes();
        let mut tried = Tried::default();
        for _ in 0..3 {
            let chosen = picker.pick((draw(2) == 0).then_some(&key), &tried);
            let can = |(index, weight): (usize, &u16)| *weight > 0 && known[index];
            assert_eq!(
                chosen.is_some(),
                weights.iter().enumerate().any(can),
                "seed {seed}"
            );
            log.push(chosen);
            let Some(index) = chosen else { break };
            assert!(weights[index] > 0 && known[index], "seed {seed}");
            let began = picker.begins(index);
            tokio::time::advance(std::time::Duration::from_millis(draw(50) as u64)).await;
            picker.ended(index, began, !is_alive[index]);
            if is_alive[index] {
                picker.say(index, Said::Status(200));
                break;
            }
            picker.say(index, Said::Nothing);
            known[index] = false;
            tried.add(index);
        }
    }
    log
}
