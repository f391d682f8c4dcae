//! Any history gives one state at each version, however it is read.

use proptest::prelude::*;
use trunkline_store::{Engine, Projections};

use super::game::{Event, Game, Moves, play, replayed};
use super::projections::tallies;
use crate::common::Place;

fn event() -> impl Strategy<Value = Event> {
    // The tables of a projection are its author's: PostgreSQL keeps no NUL in them.
    let by = "[ab\u{e000}\"\\\\]{0,3}";
    prop_oneof![
        by.prop_map(|by| Event::Created { by }),
        by.prop_map(|by| Event::Joined { by }),
        (by, any::<u8>()).prop_map(|(by, field)| Event::Moved { by, field }),
        by.prop_map(Event::Resigned),
        Just(Event::Ended),
    ]
}

/// Appends, each to one of three games.
fn appends() -> impl Strategy<Value = Vec<(usize, Vec<Event>)>> {
    prop::collection::vec((0..3_usize, prop::collection::vec(event(), 0..9)), 1..12)
}

async fn one_state_at_each_version(engine: Engine, appends: Vec<(usize, Vec<Event>)>) {
    let place = Place::new(engine);
    let store = place.open().await;
    let projections = Projections::new(store.clone()).with(Moves);
    projections.prepare().await.unwrap();
    let ids = ["a", "b'\"", "c\u{e000}"];
    let mut expected: [Vec<Event>; 3] = Default::default();
    for (which, events) in appends {
        expected[which].extend(events.iter().cloned());
        let game = play(&store, ids[which], &events).await;
        assert_eq!(game.state(), &replayed(&expected[which]));
        projections.catch_up().await.unwrap();
    }
    let games = store.aggregates::<Game>();
    for (id, events) in ids.iter().zip(&expected) {
        for version in 0..=events.len() {
            let number = u64::try_from(version).unwrap();
            let game = games.at_version(id, number).await.unwrap();
            assert_eq!(game.state(), &replayed(&events[..version]));
        }
        let listed = games.events(id, 0, 1_000).await.unwrap();
        let listed: Vec<Event> = listed.into_iter().map(|one| one.event).collect();
        assert_eq!(&listed, events);
    }
    let before = tallies(&store).await;
    projections.rebuild("moves").await.unwrap();
    projections.catch_up().await.unwrap();
    assert_eq!(tallies(&store).await, before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn one_state_on_sqlite(appends in appends()) {
        run(one_state_at_each_version(Engine::Sqlite, appends));
    }

    #[test]
    fn one_state_on_postgres(appends in appends()) {
        run(one_state_at_each_version(Engine::Postgres, appends));
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}
