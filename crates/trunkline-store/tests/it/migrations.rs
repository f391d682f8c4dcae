//! Migrations are applied once, in order, and never changed.

use trunkline_core::ErrorKind;
use trunkline_store::Migration;

use crate::common::{NOTES, Place, notes, on_both_engines};

on_both_engines!(
    applied_once_and_a_changed_one_is_refused_by_name,
    a_broken_one_leaves_nothing_behind,
    many_processes_may_migrate_at_once,
);

async fn applied_once_and_a_changed_one_is_refused_by_name(place: Place) {
    let store = place.open().await;
    store.migrate(NOTES).await.unwrap();
    store.migrate(NOTES).await.unwrap();
    let more = [
        NOTES[0],
        Migration {
            name: "0002_more",
            sql: "CREATE TABLE more (a BIGINT)",
        },
    ];
    store.migrate(&more).await.unwrap();
    store
        .migrate(NOTES)
        .await
        .expect("an older version of the service may start again");

    let changed = [Migration {
        name: "0001_notes",
        sql: "CREATE TABLE note (name TEXT)",
    }];
    let refused = store.migrate(&changed).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("0001_notes"), "{refused}");
    let same = format!("\u{20}{}", NOTES[0].sql).replace('\n', "\r\n");
    let lines = [Migration {
        name: "0001_notes",
        sql: same.trim_start().to_owned().leak(),
    }];
    store
        .migrate(&lines)
        .await
        .expect("how lines end does not matter");
    let twins = store.migrate(&[NOTES[0], NOTES[0]]).await.unwrap_err();
    assert_eq!(twins.code(), "migration_twice");
}

async fn a_broken_one_leaves_nothing_behind(place: Place) {
    let store = place.open().await;
    let broken = [Migration {
        name: "0001_notes",
        sql: "CREATE TABLE a (b BIGINT); CREATE TABEL",
    }];
    let error = store.migrate(&broken).await.unwrap_err();
    assert!(error.to_string().contains("0001_notes"), "{error}");
    let mended = [Migration {
        name: "0001_notes",
        sql: "CREATE TABLE a (b BIGINT)",
    }];
    store
        .migrate(&mended)
        .await
        .expect("the first half was rolled back");
}

async fn many_processes_may_migrate_at_once(place: Place) {
    let opened = futures::future::join_all((0..8).map(|_| async {
        let store = place.open().await;
        store.migrate(NOTES).await.unwrap();
        store
    }));
    for store in opened.await {
        assert_eq!(notes(&store).await, 0);
    }
}
