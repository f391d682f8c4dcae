//! Appending: in order, without gaps, by one at a time.

use futures::future::join_all;
use trunkline_core::{ErrorKind, Retry};
use trunkline_store::{APPEND_EVENTS_MAX, sql};
use trunkline_testkit::event;

use super::game::{Event, Game, moved, play, replayed};
use crate::common::{NOTES, Place, count, notes, on_both_engines};

on_both_engines!(
    events_of_a_stream_have_versions_without_gaps,
    whoever_comes_second_is_told_both_versions,
    of_many_writers_each_version_has_one,
    an_append_commits_with_rows_and_events,
    what_is_too_much_is_refused,
);

async fn events_of_a_stream_have_versions_without_gaps(place: Place) {
    let store = place.open().await;
    let all: Vec<Event> = (0..200).map(moved).collect();
    let (first, rest) = all.split_at(1);
    play(&store, "a", first).await;
    let game = play(&store, "a", rest).await;
    assert_eq!((game.version(), game.state()), (200, &replayed(&all)));
    play(&store, "b'\u{E000}", &all[..3]).await;
    let games = store.aggregates::<Game>();
    for (id, last) in [("a", 200), ("b'\u{E000}", 3)] {
        let events = games.events(id, 0, 1_000).await.unwrap();
        let versions: Vec<u64> = events.iter().map(|event| event.version).collect();
        assert_eq!(versions, (1..=last).collect::<Vec<_>>());
        assert!(events.iter().all(|event| event.id == id));
        assert!(events.is_sorted_by_key(|event| event.at));
    }
}

async fn whoever_comes_second_is_told_both_versions(place: Place) {
    let store = place.open().await;
    play(&store, "a", &[moved(0)]).await;
    let stale = store.aggregates::<Game>().load("a").await.unwrap();
    play(&store, "a", &[moved(1), moved(2)]).await;
    let mut tx = store.begin().await.unwrap();
    for expected in [0, 1, 2, 7] {
        let refused = tx.append_after::<Game>("a", expected, &[moved(3)]).await;
        let error = refused.unwrap_err();
        assert_eq!(
            (error.kind(), error.retry()),
            (ErrorKind::Conflict, Retry::Transient)
        );
        let facts: Vec<_> = error.context().collect();
        assert!(
            facts.contains(&("expected", &expected.to_string())),
            "{facts:?}"
        );
        assert!(facts.contains(&("found", "3")), "{facts:?}");
    }
    let refused = tx
        .append(&mut stale.clone(), &[moved(3)])
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "aggregate_changed");
    // The transaction goes on.
    assert_eq!(
        tx.append_after::<Game>("a", 3, &[moved(3)]).await.unwrap(),
        4
    );
    tx.commit().await.unwrap();
    assert_eq!(
        store
            .aggregates::<Game>()
            .load("a")
            .await
            .unwrap()
            .version(),
        4
    );
}

/// Sixteen writers over two stores, each of whom loads again when somebody was first.
async fn of_many_writers_each_version_has_one(place: Place) {
    const EACH: usize = 10;
    let stores = [place.open().await, place.open().await];
    let writers = (0..16).map(|writer| {
        let store = &stores[writer % 2];
        async move {
            let mut lost = 0;
            for n in 0..EACH {
                let event = Event::Joined {
                    by: format!("{writer}-{n}"),
                };
                loop {
                    // Loaded before the transaction, so that others come in between.
                    let game = store.aggregates::<Game>().load("a").await.unwrap();
                    let mut tx = store.begin().await.unwrap();
                    match tx
                        .append(&mut game.clone(), std::slice::from_ref(&event))
                        .await
                    {
                        Ok(()) => break tx.commit().await.unwrap(),
                        Err(error) => assert_eq!(error.code(), "aggregate_changed"),
                    }
                    lost += 1;
                }
            }
            lost
        }
    });
    let lost: usize = join_all(writers).await.into_iter().sum();
    assert!(lost > 0, "nobody was ever second");
    let game = stores[0].aggregates::<Game>().load("a").await.unwrap();
    assert_eq!(game.version(), 16 * u64::try_from(EACH).unwrap());
    let mut players = game.into_state().players;
    players.sort_unstable();
    players.dedup();
    assert_eq!(players.len(), 16 * EACH, "each once");
}

async fn an_append_commits_with_rows_and_events(place: Place) {
    let store = place.open().await;
    store.migrate(NOTES).await.unwrap();
    for commit in [false, true] {
        let mut tx = store.begin().await.unwrap();
        tx.append_after::<Game>("a", 0, &[moved(0)]).await.unwrap();
        sql("INSERT INTO note (name, value) VALUES ('a', 1)")
            .run(tx.conn())
            .await
            .unwrap();
        tx.publish(event("t", "a", "e", "{}")).await.unwrap();
        tx.savepoint(1).await.unwrap();
        tx.append_after::<Game>("a", 1, &[moved(1)]).await.unwrap();
        tx.rollback_to(1).await.unwrap();
        if commit {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
        let there = i64::from(commit);
        assert_eq!(notes(&store).await, there);
        assert_eq!(
            count(&store, "SELECT COUNT(*) FROM trunkline_outbox").await,
            there
        );
        let game = store.aggregates::<Game>().load("a").await.unwrap();
        assert_eq!(game.version(), u64::from(commit));
    }
}

async fn what_is_too_much_is_refused(place: Place) {
    let store = place.open().await;
    let mut tx = store.begin().await.unwrap();
    let many: Vec<Event> = (0..=APPEND_EVENTS_MAX).map(moved).collect();
    let long = [Event::Resigned("x".repeat(300 << 10))];
    for (events, code) in [
        (&many[..], "append_too_large"),
        (&long[..], "event_too_large"),
    ] {
        let error = tx.append_after::<Game>("a", 0, events).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::TooLarge, code));
    }
    for id in [String::new(), "x".repeat(257), "a\0".to_owned()] {
        let error = tx
            .append_after::<Game>(&id, 0, &[moved(0)])
            .await
            .unwrap_err();
        assert_eq!(error.code(), "aggregate_id_invalid");
    }
    let all = &many[..APPEND_EVENTS_MAX];
    assert_eq!(tx.append_after::<Game>("a", 0, all).await.unwrap(), 1_000);
}
