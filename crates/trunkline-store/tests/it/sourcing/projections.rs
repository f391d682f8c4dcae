//! Projections: each event once, in one order, and rebuilt to the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use tokio::sync::oneshot;
use trunkline_core::{Error, Result};
use trunkline_store::{Engine, Projection, Projections, Recorded, Store, Target, sql};
use trunkline_testkit::eventually;

use super::game::{Event, Game, Moves, moved, play};
use crate::common::{LIMIT, Place, count, on_both_engines};

on_both_engines!(
    a_rebuilt_projection_equals_the_live_one,
    a_late_commit_is_not_skipped,
    an_event_is_applied_once_by_many_at_once,
    a_first_build_is_whole_before_it_is_read,
    a_raised_version_is_built_beside_the_old,
    what_fails_waits_and_says_so,
    a_projection_goes_on_by_itself,
    wrong_declarations_are_refused,
);

pub(super) async fn tallies(store: &Store) -> (Vec<(String, i64)>, Vec<(String, i64, i64)>) {
    let mut reader = store.read().await.unwrap();
    let tally = sql("SELECT player, moves FROM tally ORDER BY player");
    let tally = tally.all(reader.conn()).await.unwrap();
    let seen = sql("SELECT game, version, nth FROM seen ORDER BY nth");
    (tally, seen.all(reader.conn()).await.unwrap())
}

async fn of(store: &Store) -> Projections {
    let projections = Projections::new(store.clone()).with(Moves);
    projections.prepare().await.unwrap();
    projections
}

/// Each game's versions 1, 2, 3, in the order in which they were seen, and nothing twice.
pub(super) fn assert_in_order(seen: &[(String, i64, i64)], events: usize) {
    assert_eq!(seen.len(), events);
    let mut last = std::collections::HashMap::new();
    for (place, (game, version, nth)) in seen.iter().enumerate() {
        assert_eq!(*nth, i64::try_from(place).unwrap() + 1);
        let before = last.insert(game, *version).unwrap_or(0);
        assert_eq!(*version, before + 1, "{game}");
    }
}

async fn a_rebuilt_projection_equals_the_live_one(place: Place) {
    let store = place.open().await;
    let projections = of(&store).await;
    for n in 0..60 {
        let moves: Vec<Event> = (n..n + 5).map(moved).collect();
        play(&store, &format!("g{}", n % 7), &moves).await;
        if n % 10 == 0 {
            projections.catch_up().await.unwrap();
        }
    }
    projections.catch_up().await.unwrap();
    let live = tallies(&store).await;
    assert_in_order(&live.1, 300);
    projections.rebuild("moves").await.unwrap();
    let status = projections.status().await.unwrap().remove(0);
    assert_eq!((status.position, status.rebuilding), (300, Some(0)));
    assert_eq!(
        tallies(&store).await,
        live,
        "the live one is read meanwhile"
    );
    projections.catch_up().await.unwrap();
    assert_eq!(tallies(&store).await, live);
    let status = projections.status().await.unwrap().remove(0);
    assert_eq!(
        (status.position, status.behind, status.rebuilding),
        (300, 0, None)
    );
    let left = match store.engine() {
        Engine::Sqlite => {
            "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name LIKE 'tally%'"
        }
        Engine::Postgres => {
            "SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename LIKE 'tally%'"
        }
    };
    assert_eq!(count(&store, left).await, 1, "the old tables are gone");
    assert_eq!(
        projections.rebuild("other").await.unwrap_err().code(),
        "projection_unknown"
    );
}

/// On PostgreSQL the first to insert commits last. On SQLite writers take turns, and the end is the same.
async fn a_late_commit_is_not_skipped(place: Place) {
    let store = place.open().await;
    let projections = of(&store).await;
    let late = |id: &'static str| {
        let store = store.clone();
        async move {
            let mut tx = store.begin().await.unwrap();
            tx.append_after::<Game>(id, 0, &[moved(0)]).await.unwrap();
            tx
        }
    };
    if store.engine() == Engine::Postgres {
        let (first, second) = (late("a").await, late("b").await);
        play(&store, "c", &[moved(1), moved(1)]).await;
        projections.catch_up().await.unwrap();
        assert_eq!(tallies(&store).await.1.len(), 2);
        second.commit().await.unwrap();
        projections.catch_up().await.unwrap();
        first.commit().await.unwrap();
    } else {
        play(&store, "c", &[moved(1), moved(1)]).await;
        late("b").await.commit().await.unwrap();
        late("a").await.commit().await.unwrap();
    }
    projections.catch_up().await.unwrap();
    let (_, seen) = tallies(&store).await;
    let games: Vec<&str> = seen.iter().map(|(game, ..)| &**game).collect();
    assert_eq!(games, ["c", "c", "b", "a"], "as they were committed");
    projections.rebuild("moves").await.unwrap();
    projections.catch_up().await.unwrap();
    assert_eq!(tallies(&store).await.1, seen, "and in the same order again");
}

/// Two replicas with eight writers each, who hold their transactions for a while, and with a projector each.
async fn an_event_is_applied_once_by_many_at_once(place: Place) {
    const EACH: usize = 12;
    let stores = [place.open().await, place.open().await];
    let both = join_all(stores.iter().map(of)).await;
    let done = Arc::new(AtomicBool::new(false));
    let writers = join_all((0..16).map(|writer| {
        let store = &stores[writer % 2];
        async move {
            for n in 0..EACH {
                let id = format!("g{}", (writer + n) % 5);
                let mut tx = store.begin().await.unwrap();
                loop {
                    let mut game = tx.load::<Game>(&id).await.unwrap();
                    match tx.append(&mut game, &[moved(writer), moved(n)]).await {
                        Ok(()) => break,
                        Err(error) => assert_eq!(error.code(), "aggregate_changed"),
                    }
                }
                for _ in 0..writer {
                    tokio::task::yield_now().await;
                    store.check().await.unwrap();
                }
                tx.commit().await.unwrap();
            }
        }
    }));
    let read = join_all(both.iter().map(|projections| {
        let done = done.clone();
        async move {
            while !done.load(Ordering::Relaxed) {
                projections.catch_up().await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    }));
    let all = async {
        writers.await;
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(all, read);
    both[0].catch_up().await.unwrap();
    let live = tallies(&stores[1]).await;
    assert_in_order(&live.1, 16 * EACH * 2);
    assert_eq!(live.0.iter().map(|(_, moves)| moves).sum::<i64>(), 384);
    both[1].rebuild("moves").await.unwrap();
    both[0].catch_up().await.unwrap();
    assert_eq!(tallies(&stores[0]).await, live);
}

async fn a_first_build_is_whole_before_it_is_read(place: Place) {
    let store = place.open().await;
    let moves: Vec<Event> = (0..700).map(moved).collect();
    play(&store, "a", &moves).await;
    play(&store, "b", &moves).await;
    of(&store).await;
    assert_in_order(&tallies(&store).await.1, 1_400);
    // A second start, and one beside it, find it made.
    of(&store).await;
    of(&place.open().await).await;
    assert_eq!(tallies(&store).await.1.len(), 1_400);
}

/// The same tables and one more, which counts twice.
struct Second(Arc<AtomicBool>);

impl Projection for Second {
    type Aggregate = Game;
    const NAME: &'static str = "moves";
    const VERSION: u32 = 2;
    const TABLES: &'static [&'static str] = &["tally"];
    const CREATE: &'static str =
        "CREATE TABLE {tally} (player TEXT PRIMARY KEY, moves BIGINT NOT NULL, extra TEXT)";

    async fn apply(&self, event: &Recorded<Event>, target: &mut Target<'_>) -> Result<()> {
        if self.0.load(Ordering::Relaxed) && event.version == 3 {
            return Err(Error::invalid("refused", "the third is one too many"));
        }
        let tally = target.sql(
            "INSERT INTO {tally} (player, moves) VALUES ($1, 2) \
             ON CONFLICT (player) DO UPDATE SET moves = {tally}.moves + 2",
        );
        tally.bind("all").run(target.conn()).await?;
        Ok(())
    }
}

async fn tally(store: &Store) -> Vec<(String, i64)> {
    let mut reader = store.read().await.unwrap();
    let tally = sql("SELECT player, moves FROM tally ORDER BY player");
    tally.all(reader.conn()).await.unwrap()
}

async fn a_raised_version_is_built_beside_the_old(place: Place) {
    let store = place.open().await;
    let old = of(&store).await;
    play(&store, "a", &[moved(0), moved(1), moved(2)]).await;
    old.catch_up().await.unwrap();
    let before = tallies(&store).await.0;
    let new = Projections::new(store.clone()).with(Second(Arc::default()));
    new.prepare().await.unwrap();
    assert_eq!(tally(&store).await, before);
    // The old replica goes on with its tables until the new ones are there.
    play(&store, "b", &[moved(0)]).await;
    old.catch_up().await.unwrap();
    assert_eq!(
        tally(&store).await,
        [("ada".to_owned(), 3), ("bob".to_owned(), 1)]
    );
    new.catch_up().await.unwrap();
    assert_eq!(tally(&store).await, [("all".to_owned(), 8)]);
    // Then it leaves them alone, also when it starts again.
    play(&store, "b", &[moved(0)]).await;
    old.catch_up().await.unwrap();
    old.prepare().await.unwrap();
    old.rebuild("moves").await.unwrap();
    old.catch_up().await.unwrap();
    assert_eq!(tally(&store).await, [("all".to_owned(), 8)]);
    new.catch_up().await.unwrap();
    assert_eq!(tally(&store).await, [("all".to_owned(), 10)]);
    let status = new.status().await.unwrap().remove(0);
    assert_eq!(
        (status.version, status.position, status.error),
        (Some(2), 5, None)
    );
}

async fn what_fails_waits_and_says_so(place: Place) {
    let store = place.open().await;
    let broken = Arc::new(AtomicBool::new(true));
    let projections = Projections::new(store.clone()).with(Second(broken.clone()));
    projections.prepare().await.unwrap();
    play(&store, "a", &[moved(0), moved(1)]).await;
    projections.catch_up().await.unwrap();
    play(&store, "b", &[moved(0), moved(1), moved(2), moved(3)]).await;
    for _ in 0..2 {
        let error = projections.catch_up().await.unwrap_err();
        assert_eq!(error.code(), "refused");
        assert!(
            error.context().any(|fact| fact == ("version", "3")),
            "{error:?}"
        );
        assert_eq!(
            tally(&store).await,
            [("all".to_owned(), 4)],
            "nothing of its batch"
        );
    }
    let status = projections.status().await.unwrap().remove(0);
    assert_eq!((status.position, status.behind), (2, 4));
    assert!(status.error.unwrap().contains("one too many"));
    broken.store(false, Ordering::Relaxed);
    projections.catch_up().await.unwrap();
    assert_eq!(tally(&store).await, [("all".to_owned(), 12)]);
    assert_eq!(projections.status().await.unwrap()[0].error, None);
}

async fn a_projection_goes_on_by_itself(place: Place) {
    let store = place.open().await;
    let projections = of(&store).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let runs = projections.run(async {
        let _ = stopped.await;
    });
    let plays = async {
        for n in 0..5 {
            play(&store, "a", &[moved(n)]).await;
            let is_seen = async || tallies(&store).await.1.len() == n + 1;
            eventually(LIMIT, is_seen).await;
        }
        projections.rebuild("moves").await.unwrap();
        let is_built = async || projections.status().await.unwrap()[0].rebuilding.is_none();
        eventually(LIMIT, is_built).await;
        stop.send(()).unwrap();
    };
    tokio::join!(runs, plays);
    assert_eq!(tallies(&store).await.1.len(), 5);
}

async fn wrong_declarations_are_refused(place: Place) {
    let store = place.open().await;
    let twice = Projections::new(store.clone())
        .with(Moves)
        .with(Second(Arc::default()));
    assert_eq!(
        twice.prepare().await.unwrap_err().code(),
        "projection_twice"
    );
}
