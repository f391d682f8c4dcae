//! The audit log: it is appended to, and whatever else happens to it is found.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use trunkline_core::{Env, Timestamp};
use trunkline_security::{AuditEntry, AuditOutcome, AuditSink, Secret};
use trunkline_store::{AuditHead, AuditLog, AuditQuery, Store, sql};

use crate::common::{NOTES, Place, notes, on_both_engines};

on_both_engines!(
    entries_are_found_by_what_is_known,
    an_entry_is_kept_once_and_with_its_change,
    tampering_with_any_entry_is_found,
    entries_that_are_gone_are_missed,
    who_lacks_the_secret_can_not_make_entries,
    those_who_append_at_once_make_one_chain,
    the_oldest_are_dropped_and_the_rest_still_vouch,
);

fn entry(n: usize) -> AuditEntry {
    let outcome = [AuditOutcome::Done, AuditOutcome::Refused][n % 2];
    let (actor, object) = (format!("actor-{}", n % 3), format!("thing-{n}"));
    let mut entry = AuditEntry::new(actor, "do", object, outcome, &Env::system())
        .because(format!("reason {n} with \0 and \u{E000}"))
        .in_flow(format!("flow-{n}"));
    entry.at = Timestamp::from_second(i64::try_from(n).unwrap()).unwrap();
    entry
}

async fn filled(place: &Place, entries: usize) -> (Store, AuditLog) {
    let store = place.open().await;
    let log = AuditLog::open(store.clone(), None).await.unwrap();
    let all: Vec<_> = (0..entries).map(entry).collect();
    log.append(&all).await.unwrap();
    (store, log)
}

async fn run(store: &Store, statement: &'static str) {
    let mut tx = store.begin().await.unwrap();
    let changed = sql(statement).run(tx.conn()).await.unwrap();
    assert!(changed > 0, "{statement}");
    tx.commit().await.unwrap();
}

async fn broken_at(log: &AuditLog, known: Option<&AuditHead>) -> Option<u64> {
    let check = log.verify(known).await.unwrap();
    check.broken.map(|broken| broken.position)
}

async fn entries_are_found_by_what_is_known(place: Place) {
    let (_, log) = filled(&place, 12).await;
    let find = async |set: &dyn Fn(&mut AuditQuery)| {
        let mut query = AuditQuery::default();
        set(&mut query);
        let found = log.query(&query).await.unwrap();
        let positions: Vec<u64> = found.iter().map(|record| record.position).collect();
        positions
    };
    let at = |second| Some(Timestamp::from_second(second).unwrap());
    assert_eq!(
        find(&|q| q.actor = Some("actor-1".into())).await,
        [2, 5, 8, 11]
    );
    let refused = |q: &mut AuditQuery| q.outcome = Some(AuditOutcome::Refused);
    assert_eq!(find(&refused).await, [2, 4, 6, 8, 10, 12]);
    assert_eq!(
        find(&|q| (q.since, q.until) = (at(3), at(6))).await,
        [4, 5, 6]
    );
    assert_eq!(
        find(&|q| q.correlation_id = Some("flow-7".into())).await,
        [8]
    );
    assert_eq!(
        find(&|q| (q.newest_first, q.limit) = (true, 2)).await,
        [12, 11]
    );
    assert_eq!(find(&|q| q.after = Some(10)).await, [11, 12]);
    let all = log.query(&AuditQuery::default()).await.unwrap();
    let mut expected = entry(3);
    expected.id = all[3].entry.id.clone();
    assert_eq!(all[3].entry, expected, "whatever it holds comes back");
}

async fn an_entry_is_kept_once_and_with_its_change(place: Place) {
    let (store, log) = filled(&place, 3).await;
    store.migrate(NOTES).await.unwrap();
    let twice = entry(9);
    log.append(&[twice.clone(), twice.clone()]).await.unwrap();
    log.append(&[twice]).await.unwrap();
    assert_eq!(log.head().await.unwrap().position, 4);
    for commit in [false, true] {
        let mut tx = store.begin().await.unwrap();
        sql("INSERT INTO note (name, value) VALUES ('a', 1)")
            .run(tx.conn())
            .await
            .unwrap();
        log.append_in(&mut tx, &[entry(10)]).await.unwrap();
        if commit {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
        let there = i64::from(commit);
        assert_eq!(notes(&store).await, there);
        assert_eq!(log.head().await.unwrap().position, 4 + u64::from(commit));
    }
    assert_eq!(broken_at(&log, None).await, None);
}

async fn tampering_with_any_entry_is_found(place: Place) {
    let (store, log) = filled(&place, 5).await;
    let check = log.verify(None).await.unwrap();
    assert_eq!((check.entries, check.broken), (5, None));
    for (change, restore) in [
        ("actor = 'x' || actor", "actor = substr(actor, 2)"),
        ("action = 'x' || action", "action = substr(action, 2)"),
        ("object = 'x' || object", "object = substr(object, 2)"),
        ("reason = 'x' || reason", "reason = substr(reason, 2)"),
        (
            "entry_id = 'x' || entry_id",
            "entry_id = substr(entry_id, 2)",
        ),
        ("hash = 'x' || hash", "hash = substr(hash, 2)"),
        ("outcome = 'x' || outcome", "outcome = substr(outcome, 2)"),
        (
            "happened_at = happened_at + 1",
            "happened_at = happened_at - 1",
        ),
        (
            "correlation_id = 'x' || correlation_id",
            "correlation_id = substr(correlation_id, 2)",
        ),
    ] {
        for position in 1..=5 {
            for (set, expected) in [(change, Some(position)), (restore, None)] {
                let statement =
                    format!("UPDATE trunkline_audit SET {set} WHERE position = {position}");
                run(&store, Box::leak(statement.into_boxed_str())).await;
                assert_eq!(broken_at(&log, None).await, expected, "{set} at {position}");
            }
        }
    }
    run(
        &store,
        "UPDATE trunkline_audit SET outcome = 'done' WHERE position = 4",
    )
    .await;
    assert_eq!(broken_at(&log, None).await, Some(4));
}

async fn entries_that_are_gone_are_missed(place: Place) {
    let (store, log) = filled(&place, 6).await;
    let known = log.head().await.unwrap();
    run(&store, "DELETE FROM trunkline_audit WHERE position = 6").await;
    assert_eq!(
        broken_at(&log, None).await,
        None,
        "the chain alone can't tell"
    );
    assert_eq!(broken_at(&log, Some(&known)).await, Some(6));
    log.append(&[entry(7)]).await.unwrap();
    assert_eq!(
        broken_at(&log, Some(&known)).await,
        Some(6),
        "another took its place"
    );
    run(&store, "DELETE FROM trunkline_audit WHERE position = 3").await;
    assert_eq!(broken_at(&log, None).await, Some(3));
    run(&store, "DELETE FROM trunkline_audit WHERE position < 3").await;
    assert_eq!(broken_at(&log, None).await, Some(1));
    run(&store, "DELETE FROM trunkline_audit").await;
    assert_eq!(broken_at(&log, Some(&known)).await, Some(1));
}

async fn who_lacks_the_secret_can_not_make_entries(place: Place) {
    let store = place.open().await;
    let secret = |byte| Some(Secret::new([byte; 32]).unwrap());
    let log = AuditLog::open(store.clone(), secret(1)).await.unwrap();
    log.append(&[entry(0), entry(1)]).await.unwrap();
    assert_eq!(broken_at(&log, None).await, None);
    for other in [None, secret(2)] {
        let forger = AuditLog::open(store.clone(), other).await.unwrap();
        assert_eq!(broken_at(&forger, None).await, Some(1));
        forger.append(&[entry(2)]).await.unwrap();
        assert_eq!(broken_at(&log, None).await, Some(3));
        run(&store, "DELETE FROM trunkline_audit WHERE position = 3").await;
    }
    assert!(!format!("{log:?}").contains("[1"));
}

async fn those_who_append_at_once_make_one_chain(place: Place) {
    let (store, log) = filled(&place, 1).await;
    let other = AuditLog::open(store, None).await.unwrap();
    let both = [&log, &other];
    let appends = (0..40).map(|n| async move {
        both[n % 2].append(&[entry(n), entry(n + 1)]).await.unwrap();
    });
    join_all(appends).await;
    let check = log.verify(None).await.unwrap();
    assert_eq!((check.entries, check.broken), (81, None));
    let all = AuditQuery {
        limit: 1000,
        ..AuditQuery::default()
    };
    let found = log.query(&all).await.unwrap();
    let ids: BTreeSet<_> = found.iter().map(|record| &record.entry.id).collect();
    assert_eq!(ids.len(), 81);
}

async fn the_oldest_are_dropped_and_the_rest_still_vouch(place: Place) {
    let (store, log) = filled(&place, 1200).await;
    let until = Timestamp::from_second(1100).unwrap();
    assert_eq!(log.prune(until, "user:admin").await.unwrap(), 1100);
    let check = log.verify(None).await.unwrap();
    assert_eq!((check.entries, check.broken), (100 + 3, None));
    let newest = AuditQuery {
        newest_first: true,
        limit: 1,
        ..AuditQuery::default()
    };
    let noted = log.query(&newest).await.unwrap();
    assert_eq!(noted[0].entry.action, "audit.prune");
    assert_eq!(noted[0].entry.actor, "user:admin");
    run(&store, "DELETE FROM trunkline_audit WHERE position <= 1105").await;
    assert_eq!(
        broken_at(&log, None).await,
        Some(1101),
        "not everybody may prune"
    );
    run(&store, "UPDATE trunkline_audit_anchor SET position = 1105").await;
    assert_eq!(broken_at(&log, None).await, Some(1105));
    let far = Timestamp::now() + Duration::from_secs(60);
    log.prune(far, "user:admin").await.unwrap();
    assert!(log.head().await.unwrap().position > 1200);
}
