//! Where a store may be, and what is said when it can't be there.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use trunkline_core::{Env, ErrorKind, Retry};
use trunkline_store::{Engine, Store, sqlx};
use trunkline_testkit::eventually;
use trunkline_testkit::postgres::Postgres;

use crate::common::{LIMIT, NOTES, Place, notes};

async fn refusal(url: &str) -> trunkline_core::Error {
    Store::open(url, "test-service", Env::system())
        .await
        .expect_err(url)
}

#[tokio::test]
async fn a_url_that_is_wrong_says_what_was_expected() {
    let long = format!("postgres://localhost/x?schema={}", "s".repeat(64));
    for url in [
        "mysql://localhost/x",
        "sqlite:",
        "sqlite:a.db?mode=ro",
        "postgres://localhost/x?schema=a\"b",
        "postgres://localhost/x?pool=none",
        long.as_str(),
    ] {
        let error = refusal(url).await;
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}");
        assert!(error.to_string().contains("expected"), "{error}");
    }
    let secret = refusal("postgres://me:secret@[bad/x").await;
    assert!(!format!("{secret:?}").contains("secret"), "{secret:?}");
}

#[tokio::test]
async fn a_file_is_its_owners_alone() {
    let place = Place::new(Engine::Sqlite);
    let store = place.open().await;
    store.migrate(NOTES).await.unwrap();
    let folder = place.folder.as_ref().unwrap().path().join("data");
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        files += 1;
    }
    assert!(files >= 3, "the database, its WAL and its index");
    store.close().await;
    let late = store.begin().await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn odd_names_and_the_services_name_are_fine() {
    let folder = tempfile::tempdir().unwrap();
    let url =
        format!("sqlite:{}/a b#c%25?", folder.path().display()).replace('?', "é/{service}.db");
    let store = Store::open(&url, "order-service", Env::system())
        .await
        .unwrap();
    store.check().await.unwrap();
    assert!(folder.path().join("a b#c%25é/order-service.db").exists());
}

#[tokio::test]
async fn a_store_in_memory_leaves_nothing() {
    let store = Store::open("sqlite::memory:", "test-service", Env::system())
        .await
        .unwrap();
    store.migrate(NOTES).await.unwrap();
    assert_eq!(notes(&store).await, 0);
}

#[tokio::test]
async fn a_place_that_can_not_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "no database").unwrap();
    let within = refusal(&format!("sqlite:{}/x.db", file.display())).await;
    assert_eq!(
        (within.kind(), within.retry()),
        (ErrorKind::Unavailable, Retry::Transient)
    );
    assert!(within.to_string().contains("x.db"), "{within}");
    std::fs::write(&file, [b'x'; 8192]).unwrap();
    let foreign = refusal(&format!("sqlite:{}", file.display())).await;
    assert_eq!(foreign.kind(), ErrorKind::Corrupt);
    assert!(foreign.to_string().contains("file"), "{foreign}");
    let unknown = refusal(&Postgres::shared().url("nowhere")).await;
    assert_eq!(unknown.code(), "store_missing");
    let gone = refusal("postgres://postgres@localhost/x?host=/nonexistent").await;
    assert_eq!(
        (gone.kind(), gone.retry()),
        (ErrorKind::Unavailable, Retry::Transient)
    );
}

/// `max_page_count` makes SQLite report a full disk.
#[tokio::test]
async fn a_full_disk_is_transient_and_loses_nothing() {
    let place = Place::new(Engine::Sqlite);
    let store = place.open().await;
    store.migrate(NOTES).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    sqlx::raw_sql("PRAGMA max_page_count = 1")
        .execute(tx.conn())
        .await
        .unwrap();
    let insert =
        |name: String| sqlx::query("INSERT INTO note (name, value) VALUES ($1, 1)").bind(name);
    let mut full = None;
    for n in 0..1000 {
        let name = format!("{n}{}", "x".repeat(1000));
        if let Err(error) = insert(name).execute(tx.conn()).await {
            full = Some(trunkline_store::sql_error(error));
            break;
        }
    }
    let full = full.expect("the disk is full in the end");
    assert_eq!(
        (full.code(), full.retry()),
        ("store_disk_full", Retry::Transient)
    );
    drop(tx);
    assert_eq!(notes(&store).await, 0);
    let mut tx = store.begin().await.unwrap();
    sqlx::raw_sql("PRAGMA max_page_count = 1000000")
        .execute(tx.conn())
        .await
        .unwrap();
    insert("a".to_owned()).execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(notes(&store).await, 1, "with room again, it goes on");
}

#[tokio::test]
async fn a_writer_that_waits_too_long_is_told() {
    let place = Place::new(Engine::Sqlite);
    let store = place
        .open_with(|config| config.acquire_timeout = Duration::from_millis(50))
        .await;
    let first = store.begin().await.unwrap();
    let second = store.begin().await.unwrap_err();
    assert_eq!(
        (second.kind(), second.retry()),
        (ErrorKind::Overloaded, Retry::Transient)
    );
    drop(first);
    eventually(LIMIT, async || store.begin().await.is_ok()).await;
}

#[tokio::test]
async fn broken_connections_are_replaced() {
    let place = Place::new(Engine::Postgres);
    let store = place.open().await;
    store.migrate(NOTES).await.unwrap();
    for _ in 0..3 {
        let (mut tx, mut reader) = (store.begin().await.unwrap(), store.read().await.unwrap());
        sqlx::query("SELECT 730145")
            .execute(tx.conn())
            .await
            .unwrap();
        sqlx::query("SELECT 730145")
            .execute(reader.conn())
            .await
            .unwrap();
        let cut = "SELECT CAST(pg_terminate_backend(pid) AS TEXT) FROM pg_stat_activity \
                   WHERE pid <> pg_backend_pid() AND query LIKE '%' || $1 || '%'";
        // Every connection of this store was last asked for this number, and no other of the server.
        let other = Place::new(Engine::Postgres).open().await;
        let mut admin = other.read().await.unwrap();
        sqlx::query(cut)
            .bind("SELECT 730145")
            .execute(admin.conn())
            .await
            .unwrap();
        let lost = sqlx::query("SELECT 730145")
            .execute(tx.conn())
            .await
            .unwrap_err();
        assert_eq!(
            trunkline_store::sql_error(lost).kind(),
            ErrorKind::Unavailable
        );
        drop((tx, reader));
        let mut tx = store
            .begin()
            .await
            .expect("a new connection takes its place");
        sqlx::query("SELECT 730145")
            .execute(tx.conn())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        eventually(LIMIT, async || store.check().await.is_ok()).await;
    }
}
