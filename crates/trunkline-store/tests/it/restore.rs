//! A database dumped and restored elsewhere goes on as if nothing had happened.

use std::process::Command;

use trunkline_core::{Env, Timestamp};
use trunkline_store::sqlx::{self, Connection};
use trunkline_store::{Engine, Store};
use trunkline_testkit::numbered;
use trunkline_testkit::postgres::Postgres;

use crate::common::{LIMIT, Place, bus, on_both_engines, relay, sent_ids};

on_both_engines!(pending_rows_of_a_restored_database_are_sent);

async fn publish(store: &Store, numbers: std::ops::Range<usize>) {
    for n in numbers {
        let mut tx = store.begin().await.unwrap();
        tx.publish(numbered("t", "k", n)).await.unwrap();
        tx.commit().await.unwrap();
    }
}

async fn pending_rows_of_a_restored_database_are_sent(place: Place) {
    let store = place.open().await;
    let before = bus().await;
    publish(&store, 0..50).await;
    let first = relay(&store, before.clone());
    assert!(first.drain(LIMIT).await);
    first.stop().await;
    publish(&store, 50..120).await;
    let mut tx = store.begin().await.unwrap();
    tx.publish_at(numbered("t", "later", 0), Timestamp::UNIX_EPOCH)
        .await
        .unwrap();
    tx.commit().await.unwrap();

    let (restored, _folder) = match store.engine() {
        Engine::Sqlite => copy_sqlite(&place.url).await,
        Engine::Postgres => (copy_postgres(&place.url), None),
    };
    drop(store);
    let store = Store::open(&restored, "test-service", Env::system())
        .await
        .unwrap();
    let after = bus().await;
    let relay = relay(&store, after.clone());
    publish(&store, 120..130).await;
    assert!(relay.drain(LIMIT).await);
    let mut ids = sent_ids(&after).await;
    ids.retain(|id| id != "later/0");
    let expected: Vec<_> = (50..130).map(|n| format!("k/{n}")).collect();
    assert_eq!(
        ids, expected,
        "what was pending, then what came after, in order"
    );
    assert!(sent_ids(&after).await.contains(&"later/0".to_owned()));
    assert_eq!(sent_ids(&before).await.len(), 50);
}

async fn copy_sqlite(url: &str) -> (String, Option<tempfile::TempDir>) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.db");
    let mut conn = sqlx::AnyConnection::connect(url).await.unwrap();
    sqlx::query("VACUUM INTO $1")
        .bind(copy.to_str().unwrap())
        .execute(&mut conn)
        .await
        .unwrap();
    (format!("sqlite:{}", copy.display()), Some(folder))
}

fn copy_postgres(url: &str) -> String {
    let server = Postgres::shared();
    let schema = url
        .split("schema=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap();
    let dump = server.folder().join(format!("{schema}.sql"));
    let run = |command: &mut Command| {
        let done = command.output().unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        done.stdout
    };
    let text = run(server
        .command("pg_dump")
        .args(["--schema", schema, "postgres"]));
    std::fs::write(&dump, text).unwrap();
    let database = format!("restored_{schema}");
    run(server.command("createdb").arg(&database));
    let psql = ["-q", "-v", "ON_ERROR_STOP=1", "-d", &database, "-f"];
    run(server.command("psql").args(psql).arg(&dump));
    format!("{}&schema={schema}", server.url(&database))
}
