//! Starts, entries and changes.
#![expect(clippy::indexing_slicing, reason = "a case fails by panicking")]

use std::time::Duration;

use trunkline_core::Timestamp;
use trunkline_saga::{Body, Change, Data, Fault, Instance, State, Went, Which, Write, Written};

use super::{Bench, Case, id, named, seqs, start, went};

pub(super) fn all() -> Vec<Case> {
    named![
        an_instance_comes_back_as_it_was_started,
        a_second_start_of_a_key_is_told_of_the_first,
        the_first_of_two_starts_in_a_batch_wins,
        an_empty_batch_and_an_unknown_instance,
        entries_come_back_in_order,
        a_taken_place_is_lost_and_the_rest_is_done,
        nothing_of_a_lost_write_stays,
        a_batch_is_written_in_order,
        a_large_batch_is_written_whole,
        a_change_of_another_owner_is_lost,
        a_change_sets_all_that_it_says,
        a_status_alone_changes_nothing_else,
        odd_texts_come_back,
        times_are_kept_to_the_microsecond,
    ]
}

async fn an_instance_comes_back_as_it_was_started(bench: Bench) {
    let instance = Instance {
        version: 7,
        context: Data::of(&["trace", "user"]).expect("texts"),
        wake_at: Some(bench.after(Duration::from_secs(5))),
        parent: Some(id(200)),
        ..bench.instance(1, "k")
    };
    assert_eq!(bench.write_one(start(&instance)).await, Written::Done);
    let record = bench.load(instance.id).await;
    assert_eq!(record.instance, instance);
    assert!(record.entries.is_empty() && record.messages.is_empty());
    let which = Which::Key("order".into(), "k".into());
    let found = bench.journal.load(&which).await.expect("a record");
    assert_eq!(found.expect("found by its key").instance, instance);
}

async fn a_second_start_of_a_key_is_told_of_the_first(bench: Bench) {
    let (first, second) = (bench.instance(1, "k"), bench.instance(2, "k"));
    bench.write_one(start(&first)).await;
    let exists = Written::Exists(Box::new(first.clone()));
    assert_eq!(bench.write_one(start(&second)).await, exists);
    assert_eq!(bench.write_one(start(&first)).await, exists, "asked again");
    assert!(bench.find(second.id).await.is_none());
    let other = Instance {
        saga: "refund".into(),
        ..second
    };
    assert_eq!(
        bench.write_one(start(&other)).await,
        Written::Done,
        "a key of another saga"
    );
}

async fn the_first_of_two_starts_in_a_batch_wins(bench: Bench) {
    let (first, second) = (bench.instance(9, "k"), bench.instance(2, "k"));
    let third = bench.instance(3, "other");
    let written = bench
        .write(&[start(&first), start(&second), start(&third)])
        .await;
    let exists = Written::Exists(Box::new(first));
    assert_eq!(written, [Written::Done, exists, Written::Done]);
}

async fn an_empty_batch_and_an_unknown_instance(bench: Bench) {
    assert!(bench.write(&[]).await.is_empty());
    assert!(bench.find(id(1)).await.is_none());
    let unknown = went(id(1), "a", vec![bench.entry(0, "x")], None);
    assert_eq!(bench.write_one(unknown).await, Written::Lost);
    let unknown = went(id(1), "a", vec![], Some(Change::to(State::Completed)));
    assert_eq!(bench.write_one(unknown).await, Written::Lost);
}

async fn entries_come_back_in_order(bench: Bench) {
    let one = bench.owned(1, "a").await;
    let entries: Vec<_> = (0..5)
        .map(|seq| bench.entry(seq, &format!("step-{seq}")))
        .collect();
    for range in [0..1, 1..3, 3..5] {
        let write = went(one, "a", entries[range].to_vec(), None);
        assert_eq!(bench.write_one(write).await, Written::Done);
    }
    assert_eq!(bench.load(one).await.entries, entries);
}

async fn a_taken_place_is_lost_and_the_rest_is_done(bench: Bench) {
    let (one, two) = (bench.owned(1, "a").await, bench.owned(2, "a").await);
    let first = bench.entry(0, "first");
    bench
        .write_one(went(one, "a", vec![first.clone()], None))
        .await;
    let batch = [
        went(two, "a", vec![bench.entry(0, "x")], None),
        went(one, "b", vec![bench.entry(0, "second")], None),
        start(&bench.instance(3, "three")),
        went(two, "a", vec![bench.entry(1, "y")], None),
    ];
    let written = bench.write(&batch).await;
    let done = Written::Done;
    assert_eq!(written, [done.clone(), Written::Lost, done.clone(), done]);
    assert_eq!(bench.load(one).await.entries, [first]);
    assert_eq!(seqs(&bench.load(two).await), [0, 1]);
    assert!(bench.find(id(3)).await.is_some());
}

async fn nothing_of_a_lost_write_stays(bench: Bench) {
    let one = bench.owned(1, "a").await;
    bench
        .write_one(went(one, "a", vec![bench.entry(1, "there")], None))
        .await;
    let entries = vec![
        bench.entry(0, "x"),
        bench.entry(1, "y"),
        bench.entry(2, "z"),
    ];
    let change = Change {
        release: true,
        ..Change::to(State::Completed)
    };
    let lost = bench
        .write_one(went(one, "a", entries, Some(change.clone())))
        .await;
    assert_eq!(lost, Written::Lost);
    let record = bench.load(one).await;
    assert_eq!(
        (seqs(&record), record.instance.state),
        (vec![1], State::Running)
    );
    let lost = went(one, "b", vec![bench.entry(2, "z")], Some(change));
    assert_eq!(
        bench.write_one(lost).await,
        Written::Lost,
        "the owner is another"
    );
    assert_eq!(seqs(&bench.load(one).await), [1]);
}

async fn a_batch_is_written_in_order(bench: Bench) {
    let one = Instance {
        owner: Some("a".into()),
        ..bench.instance(1, "k")
    };
    let change = |state, release| {
        Some(Change {
            release,
            ..Change::to(state)
        })
    };
    let batch = [
        start(&one),
        went(one.id, "a", vec![bench.entry(0, "x")], None),
        went(
            one.id,
            "a",
            vec![bench.entry(1, "y")],
            change(State::Compensating, false),
        ),
        went(
            one.id,
            "a",
            vec![bench.entry(2, "z")],
            change(State::Compensated, true),
        ),
        went(
            one.id,
            "a",
            vec![bench.entry(3, "late")],
            change(State::Completed, true),
        ),
        super::tell(one.id, &bench.message("m")),
    ];
    let written = bench.write(&batch).await;
    let mut wanted = vec![Written::Done; 4];
    wanted.extend([Written::Lost, Written::Ended]);
    assert_eq!(written, wanted);
    let record = bench.load(one.id).await;
    assert_eq!(record.instance.state, State::Compensated);
    assert_eq!(seqs(&record), [0, 1, 2]);
}

async fn a_large_batch_is_written_whole(bench: Bench) {
    let starts: Vec<_> = (0..200_u8)
        .map(|number| Instance {
            owner: Some("a".into()),
            ..bench.instance(number, &format!("key-{number}"))
        })
        .collect();
    let mut batch: Vec<Write> = starts.iter().map(start).collect();
    batch.extend(
        starts
            .iter()
            .map(|one| went(one.id, "a", vec![bench.entry(0, "x")], None)),
    );
    let ends = starts.iter().map(|one| {
        let output = Some(one.input.clone());
        let change = Change {
            output,
            release: true,
            ..Change::to(State::Completed)
        };
        went(one.id, "a", vec![bench.entry(1, "y")], Some(change))
    });
    batch.extend(ends);
    let written = bench.write(&batch).await;
    assert_eq!(written, vec![Written::Done; 600]);
    for one in &starts {
        let record = bench.load(one.id).await;
        assert_eq!(seqs(&record), [0, 1]);
        assert_eq!(record.instance.output.as_ref(), Some(&one.input));
    }
}

async fn a_change_of_another_owner_is_lost(bench: Bench) {
    let one = bench.owned(1, "a").await;
    let change = || Some(Change::to(State::Waiting));
    assert_eq!(
        bench.write_one(went(one, "b", vec![], change())).await,
        Written::Lost
    );
    assert_eq!(bench.load(one).await.instance.state, State::Running);
    let free = bench.settled(2, State::Waiting).await;
    assert_eq!(
        bench.write_one(went(free, "a", vec![], change())).await,
        Written::Lost
    );
}

async fn a_change_sets_all_that_it_says(bench: Bench) {
    let one = bench.owned(1, "a").await;
    bench.clock.advance(Duration::from_secs(1));
    let fault = Fault {
        kind: "conflict".into(),
        retry: "permanent".into(),
        code: "sold_out".into(),
        message: "it's \"sold\" out".into(),
    };
    let change = Change {
        output: Some(Data::of("done").expect("a text")),
        error: Some(fault.clone()),
        wake_at: Some(bench.after(Duration::from_secs(9))),
        ..Change::to(State::Waiting)
    };
    let wake_at = change.wake_at;
    bench.write_one(went(one, "a", vec![], Some(change))).await;
    let instance = bench.load(one).await.instance;
    assert_eq!(instance.state, State::Waiting);
    assert_eq!(instance.output, Some(Data::of("done").expect("a text")));
    assert_eq!((instance.error, instance.version), (Some(fault), 1));
    assert_eq!(
        (instance.wake_at, instance.changed_at),
        (wake_at, bench.now())
    );
    assert_eq!(instance.owner.as_deref(), Some("a"), "it was not released");
    let change = Change {
        release: true,
        ..Change::to(State::Running)
    };
    bench.write_one(went(one, "a", vec![], Some(change))).await;
    let instance = bench.load(one).await.instance;
    assert_eq!((instance.wake_at, instance.owner), (None, None));
}

async fn a_status_alone_changes_nothing_else(bench: Bench) {
    let one = bench.owned(1, "a").await;
    let before = bench.load(one).await.instance;
    let status = Some(Data::of("half way").expect("a text"));
    let write = Went {
        id: one,
        owner: "a".into(),
        entries: vec![bench.entry(0, "x")],
        status: status.clone(),
        change: None,
    };
    assert_eq!(bench.write_one(Write::Went(write)).await, Written::Done);
    let after = bench.load(one).await;
    assert_eq!(seqs(&after), [0]);
    assert_eq!(after.instance, Instance { status, ..before });
}

async fn odd_texts_come_back(bench: Bench) {
    let odd = "'; DROP TABLE -- \"\\ \0 \u{e000} ü 🦀 \r\n $1 %";
    let instance = Instance {
        saga: "order".into(),
        key: odd.into(),
        correlation_id: format!("{odd}{}", "long".repeat(2_000)).into(),
        owner: Some(odd.into()),
        input: Data::of(&"x".repeat(1024 * 1024 - 2)).expect("1 MiB"),
        ..bench.instance(1, "k")
    };
    let mut entry = bench.entry(0, odd);
    entry.place = odd.into();
    entry.body = Body::Received {
        message: odd.into(),
        data: Data::of(odd).expect("a text"),
    };
    let mut message = bench.message(odd);
    message.name = odd.into();
    let batch = [
        start(&instance),
        went(instance.id, odd, vec![entry.clone()], None),
        Write::Tell(Which::Key("order".into(), odd.into()), message.clone()),
    ];
    assert_eq!(bench.write(&batch).await, vec![Written::Done; 3]);
    let record = bench.load(instance.id).await;
    assert_eq!(
        (record.entries, record.messages),
        (vec![entry], vec![message])
    );
    assert_eq!(record.instance.key, instance.key);
    assert_eq!(record.instance.correlation_id, instance.correlation_id);
    assert_eq!(record.instance.owner, instance.owner);
    assert_eq!(record.instance.input, instance.input);
}

async fn times_are_kept_to_the_microsecond(bench: Bench) {
    let at = |micros| Timestamp::from_microsecond(micros).expect("a time");
    let times = [at(1_700_000_000_123_456), at(1_700_000_000_123_457), at(-1)];
    for (number, time) in (1..).zip(times) {
        let instance = Instance {
            started_at: time,
            changed_at: time,
            wake_at: Some(time),
            ..bench.instance(number, &format!("k{number}"))
        };
        bench.write_one(start(&instance)).await;
        assert_eq!(bench.load(instance.id).await.instance, instance);
    }
}
