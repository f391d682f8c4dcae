//! What a log keeps over restarts, and who may open it.

use std::sync::Arc;

use trunkline_bus::{Start, Transport};
use trunkline_core::{Env, ErrorKind, Timestamp};
use trunkline_log::{Log, LogConfig, Repair};
use trunkline_testkit::{eventually, numbered, topic};

use crate::support::{drain, fill, open, padded, read_all, small, spec};

#[tokio::test(flavor = "multi_thread")]
async fn many_segments_come_back_from_their_indexes() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(small(dir.path()));
    let mut expected = fill(&log, 400).await;
    log.close().await.unwrap();
    drop(log);
    for round in 0..3 {
        let log = open(small(dir.path()));
        assert!(log.recovery().segments > 5, "{:?}", log.recovery());
        assert_eq!(log.recovery().segments_read, usize::from(round == 2));
        assert_eq!(log.recovery().torn_bytes, 0);
        let (mut all, error) = read_all(&log).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(all.len(), expected.len());
        all.sort_by_key(|event| (event.2.key.clone(), event.1));
        expected.sort_by_key(|event| event.key.clone());
        assert!(all.iter().map(|(.., event)| event).eq(&expected));
        log.close().await.unwrap();
        drop(log);
        if round == 1 {
            // An index is a hint: without it, the segment is read.
            std::fs::remove_file(dir.path().join("0000000003.index")).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_over_restarts_and_old_events_are_read_from_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    let log = open(small(dir.path()));
    let expected = fill(&log, 300).await;
    drop(log);
    while seen.len() < expected.len() {
        let log = open(small(dir.path()));
        let mut member = log
            .subscribe(&spec(Some("g"), Start::Committed))
            .await
            .unwrap();
        let mut here = 0;
        while here < 250 && member.lag().await.unwrap() > 0 {
            for delivery in member.next(100).await.unwrap() {
                seen.push(delivery.envelope.id.to_string());
                delivery.receipt.ack();
                here += 1;
            }
        }
        member.flush().await.unwrap();
        drop(member);
        // Dropping the last clone closes it.
    }
    seen.sort();
    let mut ids: Vec<String> = expected.iter().map(|event| event.id.to_string()).collect();
    ids.sort();
    assert_eq!(seen, ids, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_follows_an_ack_without_a_flush() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(small(dir.path()));
    fill(&log, 1).await;
    let mut member = log
        .subscribe(&spec(Some("g"), Start::Committed))
        .await
        .unwrap();
    let (taken, _) = drain(&mut *member).await;
    assert_eq!(taken.len(), 4);
    // A copy of the files, as a crash would leave them, has the position soon.
    let limit = std::time::Duration::from_secs(10);
    eventually(limit, async || {
        let copy = tempfile::tempdir().unwrap();
        crate::corruption::copy(dir.path(), copy.path());
        let log = open(small(copy.path()));
        let member = log
            .subscribe(&spec(Some("g"), Start::Committed))
            .await
            .unwrap();
        member.lag().await.unwrap() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_may_open_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(small(dir.path()));
    let refused = Log::open(small(dir.path()), Env::system()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(
        refused
            .to_string()
            .contains(&dir.path().display().to_string()),
        "{refused}"
    );
    let clone = log.clone();
    drop(log);
    assert!(
        Log::open(small(dir.path()), Env::system()).is_err(),
        "a clone has it open"
    );
    clone.close().await.unwrap();
    assert!(clone.check().is_err());
    Log::open(small(dir.path()), Env::system()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let refused = Log::open(LogConfig::new(file.join("bus")), Env::system()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused:?}");
    assert!(refused.to_string().contains("file/bus"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_is_found_in_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let (env, clock) = Env::manual(7);
    let log = Log::open(small(dir.path()), env.clone()).unwrap();
    log.declare(&[topic("t", 1)]).await.unwrap();
    let mut middle = Timestamp::MIN;
    for n in 0..600 {
        clock.advance(std::time::Duration::from_millis(10));
        if n == 250 {
            middle = env.now();
        }
        log.publish(&[padded("k", n)]).await.unwrap();
    }
    drop(log);
    let log = Log::open(small(dir.path()), env).unwrap();
    let mut reader = log
        .subscribe(&spec(None, Start::Time(middle)))
        .await
        .unwrap();
    let (all, error) = drain(&mut *reader).await;
    assert!(error.is_none());
    assert_eq!(all.first().map(|(_, offset, _)| *offset), Some(250));
    assert_eq!(all.len(), 350);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_too_large_is_refused_after_its_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small(dir.path());
    config.event_bytes_max = 1024;
    let log = open(config);
    log.declare(&[topic("t", 1)]).await.unwrap();
    let mut large = numbered("t", "k", 1);
    large.data = vec![b'1'; 1025].into();
    let refused = log
        .publish(&[numbered("t", "k", 0), large, numbered("t", "k", 2)])
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(
        (refused.accepted, refused.error.kind()),
        (1, ErrorKind::TooLarge)
    );
    assert_eq!(read_all(&log).await.0.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_larger_than_what_may_wait_go_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small(dir.path());
    config.pending_bytes_max = 4096;
    let log = Arc::new(open(config));
    log.declare(&[topic("t", 1)]).await.unwrap();
    let mut publishers = tokio::task::JoinSet::new();
    for publisher in 0..4 {
        let log = log.clone();
        publishers.spawn(async move {
            let batch: Vec<_> = (0..200)
                .map(|n| padded(&format!("p{publisher}"), n))
                .collect();
            log.publish(&batch).await.unwrap();
        });
    }
    publishers.join_all().await;
    assert_eq!(read_all(&log).await.0.len(), 800);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_log_is_not_changed_by_repair_or_verification() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(small(dir.path()));
    let expected = fill(&log, 200).await;
    drop(log);
    for (repair, verify) in [(Repair::Quarantine, false), (Repair::Refuse, true)] {
        let mut config = small(dir.path());
        (config.repair, config.verify_on_open) = (repair, verify);
        let log = open(config);
        assert!(log.recovery().quarantined.is_empty());
        assert!(log.recovery().segments_read > 1);
        assert_eq!(read_all(&log).await.0.len(), expected.len());
    }
}
