//! The inbox: an event has its effect once, within the window.

use std::time::Duration;

use futures::future::join_all;

use crate::common::{Place, count, on_both_engines};

on_both_engines!(
    once_for_each_consumer,
    of_many_at_once_one_is_first,
    old_rows_are_pruned
);

async fn once_for_each_consumer(place: Place) {
    let store = place.open().await;
    let mut tx = store.begin().await.unwrap();
    assert!(tx.first_time("a", "e").await.unwrap());
    assert!(!tx.first_time("a", "e").await.unwrap());
    assert!(tx.first_time("b", "e").await.unwrap());
    tx.commit().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    assert!(!tx.first_time("a", "e").await.unwrap());
    assert!(store.seen("a", "e").await.unwrap());
    assert!(!store.seen("c", "e").await.unwrap());
}

async fn of_many_at_once_one_is_first(place: Place) {
    let store = place.open().await;
    let firsts = join_all((0..20).map(|_| async {
        let mut tx = store.begin().await.unwrap();
        let first = tx.first_time("a", "e").await.unwrap();
        tx.commit().await.unwrap();
        usize::from(first)
    }));
    assert_eq!(firsts.await.iter().sum::<usize>(), 1);
}

async fn old_rows_are_pruned(place: Place) {
    let store = place
        .open_with(|config| config.inbox_window = Duration::ZERO)
        .await;
    for n in 0..200 {
        let mut tx = store.begin().await.unwrap();
        assert!(tx.first_time("a", &format!("e{n}")).await.unwrap());
        tx.commit().await.unwrap();
    }
    let left = count(&store, "SELECT COUNT(*) FROM trunkline_inbox").await;
    assert!(left <= 64, "{left} rows are left");
}
