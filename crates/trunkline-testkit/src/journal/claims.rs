//! Owners, leases, and what is due.

use std::time::Duration;

use futures::future::join_all;
use trunkline_saga::{Change, Instance, State, Written};
use uuid::Uuid;

use super::{Bench, Case, LEASE, id, named, start, tell, went};

pub(super) fn all() -> Vec<Case> {
    named![
        the_earliest_due_come_first_and_no_more_than_asked,
        what_is_not_due_is_not_taken_and_the_next_is_told,
        other_sagas_are_left_alone,
        no_two_owners_get_one,
        a_dead_owners_instances_are_freed,
        a_living_owners_instances_are_not,
        an_owner_that_never_said_that_it_lives_is_dead,
        an_owner_hears_once_of_its_own,
        what_was_released_is_another_ones,
    ]
}

const SECOND: Duration = Duration::from_secs(1);

impl Bench {
    /// One that nobody has, due so much after now.
    async fn due(&self, number: u8, wait: Duration) -> Uuid {
        let instance = Instance {
            wake_at: Some(self.after(wait)),
            state: State::Waiting,
            ..self.instance(number, &format!("key-{number}"))
        };
        assert_eq!(self.write_one(start(&instance)).await, Written::Done);
        instance.id
    }
}

async fn the_earliest_due_come_first_and_no_more_than_asked(bench: Bench) {
    bench.due(1, SECOND * 3).await;
    bench.due(2, SECOND).await;
    bench.due(3, SECOND * 2).await;
    bench.clock.advance(SECOND * 5);
    assert!(
        bench.claim("a", 0).await.ids.is_empty(),
        "it only says that it lives"
    );
    assert_eq!(bench.claim("a", 2).await.ids, [id(2), id(3)]);
    assert_eq!(bench.claim("a", 2).await.ids, [id(1)]);
    let taken = bench.load(id(1)).await.instance;
    assert_eq!((taken.owner.as_deref(), taken.wake_at), (Some("a"), None));
    assert!(bench.claim("a", 2).await.ids.is_empty());
}

async fn what_is_not_due_is_not_taken_and_the_next_is_told(bench: Bench) {
    assert_eq!(bench.claim("a", 10).await.next, None);
    bench.due(1, SECOND * 9).await;
    bench.due(2, SECOND * 4).await;
    for _ in 0..2 {
        let claimed = bench.claim("a", 10).await;
        assert!(claimed.ids.is_empty());
        assert_eq!(claimed.next, Some(bench.after(SECOND * 4)));
    }
    bench.clock.advance(SECOND * 4);
    let claimed = bench.claim("a", 10).await;
    assert_eq!(
        (claimed.ids, claimed.next),
        (vec![id(2)], Some(bench.after(SECOND * 5)))
    );
}

async fn other_sagas_are_left_alone(bench: Bench) {
    let other = Instance {
        saga: "other".into(),
        wake_at: Some(bench.now()),
        ..bench.instance(1, "k")
    };
    bench.write_one(start(&other)).await;
    let refund = Instance {
        saga: "refund".into(),
        wake_at: Some(bench.now()),
        ..bench.instance(2, "k")
    };
    bench.write_one(start(&refund)).await;
    let claimed = bench.claim("a", 10).await;
    assert_eq!((claimed.ids, claimed.next), (vec![id(2)], None));
}

async fn no_two_owners_get_one(bench: Bench) {
    for number in 0..100 {
        bench.due(number, Duration::ZERO).await;
    }
    let names: Vec<String> = (0..8).map(|n| format!("owner-{n}")).collect();
    let mut taken = Vec::new();
    while taken.len() < 100 {
        let before = taken.len();
        for claimed in join_all(names.iter().map(|name| bench.claim(name, 7))).await {
            assert!(claimed.ids.len() <= 7);
            taken.extend(claimed.ids);
        }
        assert!(taken.len() > before, "somebody gets something");
    }
    taken.sort_unstable();
    let wanted: Vec<Uuid> = (0..100).map(id).collect();
    assert_eq!(taken, wanted);
}

async fn a_dead_owners_instances_are_freed(bench: Bench) {
    bench.claim("dead", 0).await;
    let one = bench.owned(1, "dead").await;
    assert!(bench.claim("a", 10).await.ids.is_empty());
    bench.clock.advance(LEASE + SECOND);
    assert_eq!(bench.claim("a", 10).await.ids, [one]);
    let late = went(one, "dead", vec![], Some(Change::to(State::Completed)));
    assert_eq!(bench.write_one(late).await, Written::Lost);
}

async fn a_living_owners_instances_are_not(bench: Bench) {
    bench.claim("a", 0).await;
    bench.owned(1, "a").await;
    for _ in 0..20 {
        bench.clock.advance(LEASE / 4);
        bench.claim("a", 0).await;
        assert!(bench.claim("b", 10).await.ids.is_empty());
    }
}

async fn an_owner_that_never_said_that_it_lives_is_dead(bench: Bench) {
    let one = bench.owned(1, "nobody").await;
    assert_eq!(bench.claim("a", 10).await.ids, [one]);
}

async fn an_owner_hears_once_of_its_own(bench: Bench) {
    bench.claim("a", 0).await;
    let (one, _two) = (bench.owned(1, "a").await, bench.owned(2, "a").await);
    bench.write_one(tell(one, &bench.message("m"))).await;
    assert!(
        bench.claim("b", 10).await.told.is_empty(),
        "it is another's"
    );
    let claimed = bench.claim("a", 0).await;
    assert_eq!((claimed.told, claimed.ids), (vec![one], vec![]));
    assert_eq!(bench.load(one).await.instance.wake_at, None);
    assert!(bench.claim("a", 0).await.told.is_empty());
}

async fn what_was_released_is_another_ones(bench: Bench) {
    bench.claim("a", 0).await;
    let one = bench.owned(1, "a").await;
    let rest = Change {
        release: true,
        wake_at: Some(bench.after(SECOND)),
        ..Change::to(State::Waiting)
    };
    bench.write_one(went(one, "a", vec![], Some(rest))).await;
    bench.clock.advance(SECOND);
    assert_eq!(bench.claim("b", 10).await.ids, [one]);
}
