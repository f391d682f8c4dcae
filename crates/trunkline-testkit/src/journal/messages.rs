//! Messages, and the guard against those that came.
#![expect(clippy::indexing_slicing, reason = "a case fails by panicking")]

use trunkline_core::Timestamp;
use trunkline_saga::{Body, Change, MESSAGES_MAX, State, Which, Write, Written};

use super::{Bench, Case, id, named, start, tell, told, went};

pub(super) fn all() -> Vec<Case> {
    named![
        messages_come_back_by_arrival,
        a_message_wakes_whoever_it_is_for,
        a_message_comes_once,
        a_message_needs_somebody_who_goes_on,
        what_waits_unread_is_bounded,
        a_change_is_lost_when_more_messages_have_come,
        a_message_before_a_change_in_a_batch_counts,
        a_parent_is_told_with_the_change,
        a_parent_is_not_told_of_a_lost_change,
    ]
}

async fn messages_come_back_by_arrival(bench: Bench) {
    let one = bench.owned(1, "a").await;
    for name in ["b", "a", "c"] {
        assert_eq!(
            bench.write_one(tell(one, &bench.message(name))).await,
            Written::Done
        );
    }
    let batch = ["z", "d"].map(|name| tell(one, &bench.message(name)));
    bench.write(&batch).await;
    let record = bench.load(one).await;
    assert_eq!(told(&record), ["b", "a", "c", "z", "d"]);
    assert_eq!(record.messages[0], bench.message("b"));
}

async fn a_message_wakes_whoever_it_is_for(bench: Bench) {
    let one = bench.settled(1, State::Waiting).await;
    assert_eq!(bench.load(one).await.instance.wake_at, None);
    let which = Which::Key("order".into(), "key-1".into());
    let written = bench
        .write_one(Write::Tell(which, bench.message("m")))
        .await;
    assert_eq!(written, Written::Done);
    assert_eq!(bench.load(one).await.instance.wake_at, Some(bench.now()));
    assert_eq!(bench.claim("b", 10).await.ids, [one]);
}

async fn a_message_comes_once(bench: Bench) {
    let one = bench.owned(1, "a").await;
    let batch = [
        tell(one, &bench.message("m")),
        tell(one, &bench.message("m")),
    ];
    assert_eq!(bench.write(&batch).await, vec![Written::Done; 2]);
    assert_eq!(
        bench.write_one(tell(one, &bench.message("m"))).await,
        Written::Done
    );
    assert_eq!(told(&bench.load(one).await), ["m"]);
    let release = Change {
        release: true,
        messages: Some(1),
        ..Change::to(State::Completed)
    };
    assert_eq!(
        bench.write_one(went(one, "a", vec![], Some(release))).await,
        Written::Done
    );
    let again = bench.write_one(tell(one, &bench.message("m"))).await;
    assert_eq!(again, Written::Done, "known, though it has ended");
}

async fn a_message_needs_somebody_who_goes_on(bench: Bench) {
    assert_eq!(
        bench.write_one(tell(id(99), &bench.message("m"))).await,
        Written::NotFound
    );
    let which = Which::Key("order".into(), "nobody".into());
    let nobody = Write::Tell(which, bench.message("m"));
    assert_eq!(bench.write_one(nobody).await, Written::NotFound);
    for (number, state) in (1..).zip([State::Completed, State::Failed, State::Compensated]) {
        let one = bench.settled(number, state).await;
        assert_eq!(
            bench.write_one(tell(one, &bench.message("m"))).await,
            Written::Ended
        );
    }
    let parked = bench.settled(9, State::Parked).await;
    assert_eq!(
        bench.write_one(tell(parked, &bench.message("m"))).await,
        Written::Done
    );
    assert!(
        bench.claim("b", 10).await.ids.is_empty(),
        "it waits for a person"
    );
}

async fn what_waits_unread_is_bounded(bench: Bench) {
    let one = bench.owned(1, "a").await;
    let tells: Vec<_> = (0..MESSAGES_MAX + 2)
        .map(|n| tell(one, &bench.message(&format!("m{n}"))))
        .collect();
    let written = bench.write(&tells).await;
    assert_eq!(written[..MESSAGES_MAX], vec![Written::Done; MESSAGES_MAX]);
    assert_eq!(written[MESSAGES_MAX..], [Written::Full, Written::Full]);
    let known = bench.write_one(tell(one, &bench.message("m7"))).await;
    assert_eq!(known, Written::Done, "it is there");
    let mut read = bench.entry(0, "wait");
    read.body = Body::Received {
        message: "m0".into(),
        data: bench.message("m0").data,
    };
    bench.write_one(went(one, "a", vec![read], None)).await;
    let batch = ["one", "two"].map(|name| tell(one, &bench.message(name)));
    let written = bench.write(&batch).await;
    assert_eq!(written, [Written::Done, Written::Full], "one was read");
}

async fn a_change_is_lost_when_more_messages_have_come(bench: Bench) {
    let one = bench.owned(1, "a").await;
    let rest = |messages| {
        let change = Change {
            messages: Some(messages),
            ..Change::to(State::Waiting)
        };
        went(one, "a", vec![], Some(change))
    };
    assert_eq!(bench.write_one(rest(0)).await, Written::Done);
    bench.write_one(tell(one, &bench.message("m"))).await;
    assert_eq!(bench.write_one(rest(0)).await, Written::Lost);
    assert_eq!(bench.write_one(rest(1)).await, Written::Done);
}

async fn a_message_before_a_change_in_a_batch_counts(bench: Bench) {
    let one = bench.owned(1, "a").await;
    let change = Change {
        messages: Some(0),
        release: true,
        ..Change::to(State::Waiting)
    };
    let rest = || went(one, "a", vec![bench.entry(0, "rest")], Some(change.clone()));
    let which = Which::Key("order".into(), "key-1".into());
    let written = bench
        .write(&[Write::Tell(which, bench.message("m")), rest()])
        .await;
    assert_eq!(written, [Written::Done, Written::Lost]);
    assert!(bench.load(one).await.entries.is_empty());
    let two = bench.owned(2, "a").await;
    let rest = went(two, "a", vec![bench.entry(0, "rest")], Some(change));
    let written = bench.write(&[rest, tell(two, &bench.message("m"))]).await;
    assert_eq!(written, vec![Written::Done; 2], "the other way round");
    assert_eq!(bench.load(two).await.instance.wake_at, Some(bench.now()));
}

async fn a_parent_is_told_with_the_change(bench: Bench) {
    let (parent, child) = (
        bench.settled(1, State::Waiting).await,
        bench.owned(2, "a").await,
    );
    let change = Change {
        release: true,
        tell_parent: Some((parent, bench.message("end"))),
        ..Change::to(State::Completed)
    };
    let end = went(child, "a", vec![bench.entry(0, "x")], Some(change));
    assert_eq!(bench.write_one(end).await, Written::Done);
    let record = bench.load(parent).await;
    assert_eq!(told(&record), ["end"]);
    assert_eq!(record.instance.wake_at, Some(bench.now()));
    let orphan = bench.owned(3, "a").await;
    let change = Change {
        tell_parent: Some((id(99), bench.message("end"))),
        ..Change::to(State::Completed)
    };
    let end = went(orphan, "a", vec![], Some(change));
    assert_eq!(
        bench.write_one(end).await,
        Written::Done,
        "nobody waits any more"
    );
}

async fn a_parent_is_not_told_of_a_lost_change(bench: Bench) {
    let parent = Write::Start(Box::new(bench.instance(1, "parent")));
    let other = start(&bench.instance(3, "other"));
    let child = bench.owned(2, "a").await;
    bench.write(&[parent, other]).await;
    let change = Change {
        tell_parent: Some((id(1), bench.message("end"))),
        wake_at: Some(Timestamp::UNIX_EPOCH),
        ..Change::to(State::Completed)
    };
    let end = went(child, "b", vec![], Some(change));
    assert_eq!(bench.write_one(end).await, Written::Lost);
    assert!(bench.load(id(1)).await.messages.is_empty());
}
