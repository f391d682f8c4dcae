//! Mending and forgetting.

use std::collections::BTreeSet;
use std::time::Duration;

use trunkline_saga::{Change, Instance, Mend, State, Which, Write, Written};
use uuid::Uuid;

use super::{Bench, Case, id, named, seqs, start, tell, went};

pub(super) fn all() -> Vec<Case> {
    named![
        a_hand_moves_only_from_the_states_it_names,
        a_hand_cuts_and_adds,
        a_hand_on_a_taken_place_changes_nothing,
        a_hand_needs_an_instance_that_nobody_has,
        what_ended_long_ago_is_forgotten,
        no_more_is_forgotten_than_asked,
    ]
}

impl Bench {
    /// One that is parked after so many steps.
    async fn parked(&self, steps: u64) -> Uuid {
        let one = self.owned(1, "a").await;
        let entries = (0..steps).map(|seq| self.entry(seq, "step")).collect();
        let park = Change {
            release: true,
            ..Change::to(State::Parked)
        };
        self.write_one(went(one, "a", entries, Some(park))).await;
        one
    }
}

fn mend(id: Uuid, from: &[State]) -> Mend {
    Mend {
        which: Which::Id(id),
        from: from.iter().copied().collect(),
        cut_from: None,
        entries: Vec::new(),
        version: None,
        to: State::Running,
    }
}

async fn a_hand_moves_only_from_the_states_it_names(bench: Bench) {
    for (number, state) in (1..).zip(State::ALL) {
        let one = bench.settled(number, state).await;
        let others: Vec<State> = State::ALL
            .into_iter()
            .filter(|other| *other != state)
            .collect();
        let refused = bench.write_one(Write::Mend(mend(one, &others))).await;
        assert_eq!(refused, Written::Lost, "{state}");
        assert_eq!(bench.load(one).await.instance.state, state);
        bench.clock.advance(Duration::from_secs(1));
        let done = bench
            .write_one(Write::Mend(mend(one, &[State::Parked, state])))
            .await;
        assert_eq!(done, Written::Done, "{state}");
        let mended = bench.load(one).await.instance;
        assert_eq!((mended.state, mended.error), (State::Running, None));
        assert_eq!(
            (mended.wake_at, mended.changed_at),
            (Some(bench.now()), bench.now())
        );
    }
    let nowhere = bench.settled(90, State::Parked).await;
    let none = Mend {
        from: BTreeSet::new(),
        ..mend(nowhere, &[])
    };
    assert_eq!(bench.write_one(Write::Mend(none)).await, Written::Lost);
    let unknown = mend(id(99), &State::ALL);
    assert_eq!(
        bench.write_one(Write::Mend(unknown)).await,
        Written::NotFound
    );
}

async fn a_hand_cuts_and_adds(bench: Bench) {
    let one = bench.parked(5).await;
    let hand = Mend {
        cut_from: Some(2),
        entries: vec![bench.entry(2, "by hand")],
        version: Some(4),
        ..mend(one, &[State::Parked])
    };
    assert_eq!(bench.write_one(Write::Mend(hand)).await, Written::Done);
    let record = bench.load(one).await;
    assert_eq!(seqs(&record), [0, 1, 2]);
    assert_eq!(record.instance.version, 4);
    assert_eq!(record.entries.last(), Some(&bench.entry(2, "by hand")));
    assert_eq!(bench.claim("b", 10).await.ids, [one]);
}

async fn a_hand_on_a_taken_place_changes_nothing(bench: Bench) {
    let one = bench.parked(3).await;
    let hand = Mend {
        cut_from: Some(2),
        entries: vec![bench.entry(2, "x"), bench.entry(1, "taken")],
        ..mend(one, &[State::Parked])
    };
    let other = start(&bench.instance(2, "other"));
    let written = bench.write(&[Write::Mend(hand), other]).await;
    assert_eq!(written, [Written::Lost, Written::Done]);
    let record = bench.load(one).await;
    assert_eq!(
        (seqs(&record), record.instance.state),
        (vec![0, 1, 2], State::Parked)
    );
    assert_eq!(record.entries.last(), Some(&bench.entry(2, "step")));
}

async fn a_hand_needs_an_instance_that_nobody_has(bench: Bench) {
    let one = bench.owned(1, "a").await;
    let hand = Write::Mend(mend(one, &State::ALL));
    assert_eq!(bench.write_one(hand).await, Written::Lost);
    assert_eq!(bench.load(one).await.instance.owner.as_deref(), Some("a"));
}

async fn what_ended_long_ago_is_forgotten(bench: Bench) {
    let old = bench.owned(1, "a").await;
    bench.write_one(tell(old, &bench.message("m"))).await;
    let end = Change {
        release: true,
        ..Change::to(State::Completed)
    };
    bench
        .write_one(went(old, "a", vec![bench.entry(0, "x")], Some(end)))
        .await;
    let parked = bench.settled(2, State::Parked).await;
    bench.clock.advance(Duration::from_secs(60));
    let before = bench.now();
    let young = bench.settled(3, State::Failed).await;
    assert_eq!(
        bench.write_one(Write::Prune(before, 10)).await,
        Written::Done
    );
    assert!(bench.find(old).await.is_none());
    assert!(bench.find(parked).await.is_some() && bench.find(young).await.is_some());
    // Its key and its id are free, and nothing of it is left.
    let again = Instance {
        owner: Some("a".into()),
        ..bench.instance(1, "key-1")
    };
    assert_eq!(bench.write_one(start(&again)).await, Written::Done);
    let record = bench.load(old).await;
    assert!(record.entries.is_empty() && record.messages.is_empty());
}

async fn no_more_is_forgotten_than_asked(bench: Bench) {
    for number in 0..5 {
        bench.settled(number, State::Completed).await;
        bench.clock.advance(Duration::from_secs(1));
    }
    let pruned = bench.write_one(Write::Prune(bench.now(), 2)).await;
    assert_eq!(pruned, Written::Full, "there are more");
    let mut left = Vec::new();
    for number in 0..5 {
        left.extend(bench.find(id(number)).await.map(|_| number));
    }
    assert_eq!(left, [2, 3, 4], "the oldest go first");
}
