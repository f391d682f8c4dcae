//! Rows, inbox and outbox of one transaction take effect together or not at all.

use std::time::Duration;

use trunkline_core::{ErrorKind, Retry};
use trunkline_store::{Store, sql_error, sqlx};
use trunkline_testkit::{eventually, numbered};

use crate::common::{LIMIT, NOTES, Place, count, notes, on_both_engines};

on_both_engines!(
    a_commit_keeps_all_and_a_drop_keeps_nothing,
    a_savepoint_takes_its_events_along,
    a_transaction_dropped_in_a_statement_leaves_the_store_usable,
    errors_say_what_they_are,
    a_reader_goes_on_while_somebody_writes,
    nobody_waits_for_the_key_of_an_open_transaction,
);

async fn insert(tx: &mut trunkline_store::Tx, name: &str) -> trunkline_core::Result<()> {
    sqlx::query("INSERT INTO note (name, value) VALUES ($1, $2)")
        .bind(name)
        .bind(1_i64)
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
    Ok(())
}

async fn pending(store: &Store) -> i64 {
    count(store, "SELECT COUNT(*) FROM trunkline_outbox").await
}

async fn a_commit_keeps_all_and_a_drop_keeps_nothing(place: Place) {
    let store = place.open().await;
    store.migrate(NOTES).await.unwrap();
    for (event, commit) in [(0, false), (1, true)] {
        let mut tx = store.begin().await.unwrap();
        insert(&mut tx, "a").await.unwrap();
        assert!(tx.first_time("c", "e").await.unwrap());
        tx.publish(numbered("t", "k", event)).await.unwrap();
        if commit {
            tx.commit().await.unwrap();
        }
        assert_eq!(notes(&store).await, i64::from(commit));
        assert_eq!(store.seen("c", "e").await.unwrap(), commit);
        assert_eq!(pending(&store).await, i64::from(commit));
    }
    let mut tx = store.begin().await.unwrap();
    insert(&mut tx, "b").await.unwrap();
    tx.rollback().await.unwrap();
    store.close().await;
    let store = place.open().await;
    assert_eq!(
        notes(&store).await,
        1,
        "what was committed is there at the next start"
    );
    assert_eq!(pending(&store).await, 1);
}

async fn a_savepoint_takes_its_events_along(place: Place) {
    let store = place.open().await;
    store.migrate(NOTES).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    for n in 0..4_u32 {
        tx.savepoint(n).await.unwrap();
        insert(&mut tx, &format!("n{n}")).await.unwrap();
        tx.publish(numbered("t", "k", n as usize)).await.unwrap();
        if n % 2 == 1 {
            // A failed statement ends a transaction on PostgreSQL; its savepoint is still good.
            assert!(insert(&mut tx, "n0").await.is_err());
            tx.rollback_to(n).await.unwrap();
        }
        tx.release(n).await.unwrap();
    }
    assert!(tx.rollback_to(9).await.is_err());
    tx.commit().await.unwrap();
    assert_eq!(notes(&store).await, 2);
    let mut reader = store.read().await.unwrap();
    let ids: Vec<String> = sqlx::query_scalar("SELECT event_id FROM trunkline_outbox ORDER BY id")
        .fetch_all(reader.conn())
        .await
        .unwrap();
    assert_eq!(ids, ["k/0", "k/2"]);
}

async fn a_transaction_dropped_in_a_statement_leaves_the_store_usable(place: Place) {
    let store = place.open().await;
    store.migrate(NOTES).await.unwrap();
    for n in 0..50_u64 {
        let work = async {
            let mut tx = store.begin().await.unwrap();
            insert(&mut tx, "x").await.unwrap();
            insert(&mut tx, "y").await.unwrap();
            std::future::pending::<()>().await;
        };
        // Cut off in the middle of whatever it does by then.
        drop(tokio::time::timeout(Duration::from_micros(n * 40), work).await);
        let mut tx = store.begin().await.unwrap();
        insert(&mut tx, "x")
            .await
            .expect("what was cut off is rolled back");
        tx.rollback().await.unwrap();
    }
    assert_eq!(notes(&store).await, 0);
}

async fn errors_say_what_they_are(place: Place) {
    let store = place.open().await;
    store.migrate(NOTES).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    insert(&mut tx, "a").await.unwrap();
    let twice = insert(&mut tx, "a").await.unwrap_err();
    assert_eq!(
        (twice.kind(), twice.code()),
        (ErrorKind::Conflict, "row_exists")
    );
    drop(tx);
    let mut tx = store.begin().await.unwrap();
    let null = sqlx::query("INSERT INTO note (name) VALUES ('b')")
        .execute(tx.conn())
        .await;
    assert_eq!(sql_error(null.unwrap_err()).code(), "row_invalid");
    drop(tx);
    let mut tx = store.begin().await.unwrap();
    let wrong = sqlx::query("SELECT nothing FROM nowhere")
        .execute(tx.conn())
        .await;
    assert_eq!(sql_error(wrong.unwrap_err()).retry(), Retry::Permanent);
    drop(tx);
    let mut tx = store.begin().await.unwrap();
    for n in 0..10_000 {
        tx.publish(numbered("t", "k", n)).await.unwrap();
    }
    let many = tx.publish(numbered("t", "k", 10_000)).await.unwrap_err();
    assert_eq!(many.kind(), ErrorKind::TooLarge);
}

async fn a_reader_goes_on_while_somebody_writes(place: Place) {
    let store = place.open().await;
    store.migrate(NOTES).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    insert(&mut tx, "a").await.unwrap();
    assert_eq!(
        notes(&store).await,
        0,
        "a reader sees what is committed, and does not wait"
    );
    tx.commit().await.unwrap();
    assert_eq!(notes(&store).await, 1);
    store.check().await.unwrap();
}

/// An event published early in a long transaction must not make others of its key wait until its end.
async fn nobody_waits_for_the_key_of_an_open_transaction(place: Place) {
    let store = place.open().await;
    if store.engine() == trunkline_store::Engine::Sqlite {
        return; // One writer at a time: here everybody waits.
    }
    let mut long = store.begin().await.unwrap();
    long.publish(numbered("t", "k", 1)).await.unwrap();
    let mut short = store.begin().await.unwrap();
    short.publish(numbered("t", "k", 0)).await.unwrap();
    tokio::time::timeout(LIMIT, short.commit())
        .await
        .expect("it does not wait")
        .unwrap();
    long.commit().await.unwrap();
    eventually(LIMIT, async || pending(&store).await == 2).await;
}
