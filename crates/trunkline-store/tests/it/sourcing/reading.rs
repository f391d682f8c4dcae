//! Loading, travelling in time, and what is found to be wrong.

use serde::{Deserialize, Serialize};
use trunkline_core::ErrorKind;
use trunkline_store::{Aggregate, EventType, Store, sqlx};

use super::game::{Event, Game, moved, play, replayed};
use crate::common::{Place, count, on_both_engines};

on_both_engines!(
    a_game_is_read_as_it_was_at_each_version,
    a_game_is_read_as_it_was_at_a_moment,
    events_are_listed_in_pages,
    older_events_are_read_as_newer_ones,
    what_is_wrong_in_a_stream_has_a_name,
    changed_code_ignores_the_snapshots_of_the_old,
);

async fn run(store: &Store, statement: &'static str) {
    let mut tx = store.begin().await.unwrap();
    let done = sqlx::query(statement).execute(tx.conn()).await.unwrap();
    assert!(done.rows_affected() > 0, "{statement}");
    tx.commit().await.unwrap();
}

fn whole_game() -> Vec<Event> {
    let mut events = vec![
        Event::Created {
            by: "ada".to_owned(),
        },
        Event::Joined {
            by: "bob".to_owned(),
        },
    ];
    events.extend((0..40).map(moved));
    events.extend([Event::Resigned("bob".to_owned()), Event::Ended]);
    events
}

async fn a_game_is_read_as_it_was_at_each_version(place: Place) {
    let store = place.open().await;
    let events = whole_game();
    for some in events.chunks(3) {
        play(&store, "a", some).await;
    }
    let snapshots = count(&store, "SELECT COUNT(*) FROM trunkline_snapshot").await;
    assert!(snapshots > 3, "{snapshots} snapshots");
    let games = store.aggregates::<Game>();
    for version in 0..=events.len() {
        let expected = replayed(&events[..version]);
        let version = u64::try_from(version).unwrap();
        let game = games.at_version("a", version).await.unwrap();
        assert_eq!((game.version(), game.state()), (version, &expected));
    }
    let beyond = games.at_version("a", 45).await.unwrap_err();
    assert_eq!(
        (beyond.kind(), beyond.code()),
        (ErrorKind::NotFound, "version_not_found")
    );
    assert_eq!(games.load("none").await.unwrap().version(), 0);
}

async fn a_game_is_read_as_it_was_at_a_moment(place: Place) {
    let store = place.open().await;
    let events = whole_game();
    let mut moments = Vec::new();
    for event in &events {
        let game = play(&store, "a", std::slice::from_ref(event)).await;
        moments.push(game.changed_at().unwrap());
    }
    assert!(moments.is_sorted());
    let games = store.aggregates::<Game>();
    for at in &moments {
        let by_then = moments.iter().filter(|other| *other <= at).count();
        let game = games.as_of("a", *at).await.unwrap();
        assert_eq!(game.state(), &replayed(&events[..by_then]));
    }
    let before = moments[0]
        .checked_sub(std::time::Duration::from_secs(1))
        .unwrap();
    assert_eq!(games.as_of("a", before).await.unwrap().version(), 0);
}

async fn events_are_listed_in_pages(place: Place) {
    let store = place.open().await;
    let events = whole_game();
    play(&store, "a", &events).await;
    let games = store.aggregates::<Game>();
    let mut listed = Vec::new();
    loop {
        let after = u64::try_from(listed.len()).unwrap();
        let page = games.events("a", after, 10).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 10);
        listed.extend(page.into_iter().map(|recorded| recorded.event));
    }
    assert_eq!(listed, events);
}

async fn older_events_are_read_as_newer_ones(place: Place) {
    let store = place.open().await;
    play(&store, "a", &[moved(4), moved(4), moved(4)]).await;
    run(
        &store,
        "UPDATE trunkline_event SET name_version = 2, data = '{\"by\":\"eve\",\"row\":1,\"column\":2}' WHERE version = 2",
    )
    .await;
    run(
        &store,
        "UPDATE trunkline_event SET name_version = 1, data = '{\"row\":2,\"column\":2}' WHERE version = 1",
    )
    .await;
    let game = store.aggregates::<Game>().load("a").await.unwrap();
    let fields = [("nobody", 8), ("eve", 5), ("ada", 4)].map(|(by, field)| (by.to_owned(), field));
    assert_eq!(game.state().fields, fields);
}

async fn what_is_wrong_in_a_stream_has_a_name(place: Place) {
    let store = place.open().await;
    play(&store, "a", &whole_game()[..6]).await;
    let games = store.aggregates::<Game>();
    for (change, restore, code) in [
        (
            "UPDATE trunkline_event SET name = 'castled' WHERE version = 4",
            "UPDATE trunkline_event SET name = 'moved' WHERE version = 4",
            "stored_event_unknown",
        ),
        (
            "UPDATE trunkline_event SET name_version = 4 WHERE version = 4",
            "UPDATE trunkline_event SET name_version = 3 WHERE version = 4",
            "stored_event_version_unknown",
        ),
        (
            "UPDATE trunkline_event SET name_version = 0 WHERE version = 4",
            "UPDATE trunkline_event SET name_version = 3 WHERE version = 4",
            "stored_event_version_unknown",
        ),
        (
            "UPDATE trunkline_event SET name = 'created' WHERE version = 6",
            "UPDATE trunkline_event SET name = 'moved' WHERE version = 6",
            "stored_event_version_unknown",
        ),
        (
            "UPDATE trunkline_event SET data = '{\"by\":7}' WHERE version = 2",
            "UPDATE trunkline_event SET data = '{\"by\":\"bob\"}' WHERE version = 2",
            "stored_event_undecodable",
        ),
        (
            "UPDATE trunkline_event SET data = '{' WHERE version = 2",
            "UPDATE trunkline_event SET data = '{\"by\":\"bob\"}' WHERE version = 2",
            "stored_event_undecodable",
        ),
        (
            "UPDATE trunkline_event SET version = 9 WHERE version = 5",
            "UPDATE trunkline_event SET version = 5 WHERE version = 9",
            "stream_gap",
        ),
    ] {
        run(&store, change).await;
        let error = games.load("a").await.unwrap_err();
        assert_eq!(error.code(), code, "{change}: {error:?}");
        assert!(error.context().any(|fact| fact == ("id", "a")), "{error:?}");
        run(&store, restore).await;
        games.load("a").await.unwrap();
    }
}

/// The same games, in the form of a later version of the code.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Counted {
    moves: u32,
}

impl Aggregate for Counted {
    type Event = Event;
    const KIND: &'static str = Game::KIND;
    const EVENTS: &'static [EventType] = Game::EVENTS;
    const STATE_VERSION: u32 = 2;
    const SNAPSHOT_EVERY: u32 = 5;

    fn apply(&mut self, event: &Event) {
        self.moves += u32::from(matches!(event, Event::Moved { .. }));
    }
}

async fn changed_code_ignores_the_snapshots_of_the_old(place: Place) {
    let store = place.open().await;
    let moves: Vec<Event> = (0..20).map(moved).collect();
    play(&store, "a", &moves).await;
    let of_version = |n| {
        let sql = [
            "",
            "SELECT COUNT(*) FROM trunkline_snapshot WHERE state_version = 1",
            "SELECT COUNT(*) FROM trunkline_snapshot WHERE state_version = 2",
        ][n];
        count(&store, sql)
    };
    assert_eq!(of_version(1).await, 1);
    let games = store.aggregates::<Counted>();
    assert_eq!(games.load("a").await.unwrap().state().moves, 20);
    let mut tx = store.begin().await.unwrap();
    let mut game = tx.load::<Counted>("a").await.unwrap();
    tx.append(&mut game, &moves[..1]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((of_version(1).await, of_version(2).await), (0, 1));
    // It is the snapshot that is read: the state in it says so.
    run(
        &store,
        "UPDATE trunkline_snapshot SET state = '{\"moves\":1000}'",
    )
    .await;
    assert_eq!(games.load("a").await.unwrap().state().moves, 1000);
    // One that can't be read is passed over, and one that is ahead of its stream is not believed.
    run(&store, "UPDATE trunkline_snapshot SET state = '{}'").await;
    assert_eq!(games.load("a").await.unwrap().state().moves, 21);
    run(&store, "UPDATE trunkline_snapshot SET version = 30").await;
    assert_eq!(games.load("a").await.unwrap_err().code(), "stream_gap");
}
