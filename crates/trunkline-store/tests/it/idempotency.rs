//! Idempotency keys: one effect, one answer.

use std::time::Duration;

use futures::future::join_all;
use trunkline_core::ErrorKind;
use trunkline_store::{Begin, Store, StoredResponse, body_hash};

use crate::common::{NOTES, Place, count, notes, on_both_engines};

on_both_engines!(
    the_same_key_gets_the_same_answer,
    of_many_at_once_one_has_its_effect,
    a_key_is_given_back_or_taken_over,
    expired_keys_are_pruned,
);

fn answer(body: &str) -> StoredResponse {
    let headers = vec![("location".to_owned(), "/orders/1".to_owned())];
    StoredResponse {
        status: 202,
        headers,
        body: body.as_bytes().to_vec(),
    }
}

async fn complete(store: &Store, key: &str, body: &str) -> trunkline_core::Result<()> {
    let mut tx = store.begin().await?;
    tx.complete_idempotent("orders", key, &answer(body)).await?;
    tx.commit().await
}

async fn the_same_key_gets_the_same_answer(place: Place) {
    let store = place.open().await;
    let keys = store.idempotency();
    let body = body_hash(b"{}");
    assert_eq!(
        keys.begin("orders", "k", body).await.unwrap(),
        Begin::Started
    );
    assert_eq!(
        keys.begin("orders", "k", body).await.unwrap(),
        Begin::Running
    );
    assert_eq!(
        keys.begin("orders", "k", body_hash(b"[]")).await.unwrap(),
        Begin::Mismatch
    );
    assert_eq!(
        keys.begin("others", "k", body).await.unwrap(),
        Begin::Started
    );
    complete(&store, "k", "done").await.unwrap();
    assert_eq!(
        keys.begin("orders", "k", body).await.unwrap(),
        Begin::Replay(answer("done"))
    );
    assert_eq!(
        keys.begin("orders", "k", body_hash(b"[]")).await.unwrap(),
        Begin::Mismatch
    );
    let again = complete(&store, "k", "other").await.unwrap_err();
    assert_eq!(
        again.kind(),
        ErrorKind::Conflict,
        "an answer is stored once"
    );
    let bad = keys.begin("orders", "", body).await.unwrap_err();
    assert_eq!(bad.kind(), ErrorKind::InvalidInput);
}

async fn of_many_at_once_one_has_its_effect(place: Place) {
    // A lease of nothing: everybody takes the key over from everybody.
    let store = place
        .open_with(|config| config.idempotency_lease = Duration::ZERO)
        .await;
    store.migrate(NOTES).await.unwrap();
    let won = join_all((0..16).map(|n| {
        let store = store.clone();
        async move {
            let begun = store
                .idempotency()
                .begin("orders", "k", body_hash(b""))
                .await
                .unwrap();
            if begun != Begin::Started {
                return 0;
            }
            let mut tx = store.begin().await.unwrap();
            trunkline_store::sqlx::query("INSERT INTO note (name, value) VALUES ($1, 1)")
                .bind(format!("n{n}"))
                .execute(tx.conn())
                .await
                .unwrap();
            let stored = tx.complete_idempotent("orders", "k", &answer("done")).await;
            if stored.is_ok() {
                usize::from(tx.commit().await.is_ok())
            } else {
                0
            }
        }
    }));
    assert_eq!(won.await.iter().sum::<usize>(), 1);
    assert_eq!(notes(&store).await, 1);
}

async fn a_key_is_given_back_or_taken_over(place: Place) {
    let store = place.open().await;
    let body = body_hash(b"{}");
    assert_eq!(
        store.idempotency().begin("o", "k", body).await.unwrap(),
        Begin::Started
    );
    store.idempotency().abandon("o", "k").await.unwrap();
    assert_eq!(
        store.idempotency().begin("o", "k", body).await.unwrap(),
        Begin::Started
    );
    let second = place.open().await;
    assert_eq!(
        second.idempotency().begin("o", "k", body).await.unwrap(),
        Begin::Running
    );
    let sqlite = store.engine() == trunkline_store::Engine::Sqlite;
    drop((store, second));
    // As after a crash: on SQLite the next start knows that nobody is left, elsewhere the lease ends.
    let lease = if sqlite {
        Duration::from_secs(3600)
    } else {
        Duration::ZERO
    };
    let store = place
        .open_with(|config| config.idempotency_lease = lease)
        .await;
    let begun = store.idempotency().begin("o", "k2", body).await.unwrap();
    assert_eq!(begun, Begin::Started);
    let key = if sqlite { "k" } else { "k2" };
    assert_eq!(
        store.idempotency().begin("o", key, body).await.unwrap(),
        Begin::Started
    );
}

async fn expired_keys_are_pruned(place: Place) {
    let window = |config: &mut trunkline_store::StoreConfig| {
        config.idempotency_window = Duration::ZERO;
    };
    let store = place.open_with(window).await;
    for n in 0..40 {
        let key = format!("k{n}");
        let begun = store
            .idempotency()
            .begin("orders", &key, body_hash(b""))
            .await
            .unwrap();
        assert_eq!(begun, Begin::Started);
        complete(&store, &key, "done").await.unwrap();
    }
    let left = count(&store, "SELECT COUNT(*) FROM trunkline_idempotency").await;
    assert!(left <= 8, "{left} keys are left");
}
