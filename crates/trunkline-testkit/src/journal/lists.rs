//! Lists.

use std::time::Duration;

use trunkline_saga::{Change, Data, Instance, LISTED_BYTES_MAX, Query, State, Went, Write};
use uuid::Uuid;

use super::{Bench, Case, id, named, start, went};

pub(super) fn all() -> Vec<Case> {
    named![
        a_list_has_the_newest_first,
        a_list_leaves_out_what_may_be_long,
        each_filter_finds_its_own,
        filters_narrow_each_other,
        pages_cover_everything_once,
    ]
}

impl Bench {
    async fn list(&self, query: Query) -> Vec<Uuid> {
        let found = self
            .journal
            .list(&query)
            .await
            .expect("a journal that lists");
        found.into_iter().map(|instance| instance.id).collect()
    }

    async fn several(&self) {
        let one = self.instance(1, "one");
        let two = Instance {
            saga: "refund".into(),
            correlation_id: "flow".into(),
            ..self.instance(2, "two")
        };
        self.write(&[start(&one), start(&two)]).await;
        self.clock.advance(Duration::from_secs(10));
        let three = Instance {
            parent: Some(id(1)),
            correlation_id: "flow".into(),
            owner: Some("a".into()),
            ..self.instance(3, "three")
        };
        let parked = went(three.id, "a", vec![], Some(Change::to(State::Parked)));
        self.write(&[start(&three), parked]).await;
    }
}

async fn a_list_has_the_newest_first(bench: Bench) {
    assert!(bench.list(Query::default()).await.is_empty());
    for number in [5, 1, 9] {
        bench.owned(number, "a").await;
    }
    assert_eq!(bench.list(Query::default()).await, [id(9), id(5), id(1)]);
    let query = Query {
        max: 2,
        ..Query::default()
    };
    let found = bench.journal.list(&query).await.expect("a list");
    let listed = Instance {
        input: Data::null(),
        ..bench.load(id(9)).await.instance
    };
    assert_eq!(found.first(), Some(&listed));
    assert_eq!(found.len(), 2);
}

async fn a_list_leaves_out_what_may_be_long(bench: Bench) {
    for (number, length) in [(1, LISTED_BYTES_MAX - 2), (2, LISTED_BYTES_MAX - 1)] {
        let context = Data::of("a context").expect("a text");
        let one = Instance {
            context,
            owner: Some("a".into()),
            ..bench.instance(number, &format!("key-{number}"))
        };
        let said = Write::Went(Went {
            id: one.id,
            owner: "a".into(),
            entries: Vec::new(),
            status: Some(Data::of(&"x".repeat(length)).expect("a text")),
            change: Some(Box::new(Change {
                output: Some(Data::of("an output").expect("a text")),
                ..Change::to(State::Completed)
            })),
        });
        bench.write(&[start(&one), said]).await;
    }
    let found = bench.journal.list(&Query::default()).await.expect("a list");
    for one in &found {
        assert_eq!((&one.input, &one.context), (&Data::null(), &Data::null()));
        assert_eq!(one.output, None);
    }
    let said: Vec<_> = found.iter().map(|one| one.status.is_some()).collect();
    // The newest first: its quotes make it a byte too long.
    assert_eq!(said, [false, true]);
}

async fn each_filter_finds_its_own(bench: Bench) {
    bench.several().await;
    let all = Query::default;
    let one = Some(id(2));
    assert_eq!(bench.list(Query { id: one, ..all() }).await, [id(2)]);
    let saga = Some("refund".into());
    assert_eq!(bench.list(Query { saga, ..all() }).await, [id(2)]);
    for (state, wanted) in [
        (State::Parked, vec![id(3)]),
        (State::Running, vec![id(2), id(1)]),
        (State::Completed, vec![]),
    ] {
        let state = Some(state);
        assert_eq!(bench.list(Query { state, ..all() }).await, wanted);
    }
    let correlation_id = Some("flow".into());
    let found = bench
        .list(Query {
            correlation_id,
            ..all()
        })
        .await;
    assert_eq!(found, [id(3), id(2)]);
    let key = Some("one".into());
    assert_eq!(bench.list(Query { key, ..all() }).await, [id(1)]);
    let parent = Some(id(1));
    assert_eq!(bench.list(Query { parent, ..all() }).await, [id(3)]);
    let started_before = Some(bench.now());
    let found = bench
        .list(Query {
            started_before,
            ..all()
        })
        .await;
    assert_eq!(found, [id(2), id(1)]);
    let after = Some(id(3));
    assert_eq!(bench.list(Query { after, ..all() }).await, [id(2), id(1)]);
}

async fn filters_narrow_each_other(bench: Bench) {
    bench.several().await;
    let query = Query {
        id: None,
        saga: Some("order".into()),
        state: Some(State::Parked),
        correlation_id: Some("flow".into()),
        key: Some("three".into()),
        parent: Some(id(1)),
        started_before: Some(bench.after(Duration::from_secs(1))),
        after: Some(id(9)),
        max: 10,
    };
    assert_eq!(bench.list(query.clone()).await, [id(3)]);
    let key = Some("one".into());
    assert!(bench.list(Query { key, ..query }).await.is_empty());
}

async fn pages_cover_everything_once(bench: Bench) {
    for number in 0..25 {
        bench.owned(number, "a").await;
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = Query {
            after,
            max: 10,
            ..Query::default()
        };
        let page = bench.list(page).await;
        let Some(last) = page.last() else { break };
        after = Some(*last);
        seen.extend(page);
    }
    let wanted: Vec<Uuid> = (0..25).rev().map(id).collect();
    assert_eq!(seen, wanted);
}
