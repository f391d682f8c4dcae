//! Jobs: due once, held by one, never forgotten.

use std::time::Duration;

use futures::future::join_all;
use trunkline_core::{Env, Error, ErrorKind, Timestamp};

use crate::common::{Place, on_both_engines};

on_both_engines!(
    a_due_job_is_claimed_by_one,
    a_lost_claim_can_not_finish,
    failures_are_counted_and_seen,
    a_finish_commits_with_the_work,
);

const LEASE: Duration = Duration::from_secs(60);

async fn a_due_job_is_claimed_by_one(place: Place) {
    let store = place.open().await;
    let (jobs, now) = (store.jobs(), Env::system().now());
    let later = now.checked_add(LEASE).unwrap();
    assert_eq!(jobs.next_due(&["a"]).await.unwrap(), None);
    jobs.declare("a", Timestamp::UNIX_EPOCH).await.unwrap();
    jobs.declare("b", later).await.unwrap();
    let kept = jobs.declare("a", later).await.unwrap();
    assert_eq!(
        kept,
        Timestamp::UNIX_EPOCH,
        "a job that exists keeps its time"
    );
    assert_eq!(
        jobs.next_due(&["a", "b"]).await.unwrap(),
        Some(Timestamp::UNIX_EPOCH)
    );
    assert!(jobs.claim("b", LEASE).await.unwrap().is_none(), "not due");
    let sooner = later.checked_sub(LEASE / 2).unwrap();
    let moved = jobs.declare("b", sooner).await.unwrap();
    assert_eq!(
        moved.as_microsecond(),
        sooner.as_microsecond(),
        "a shorter schedule is not kept waiting by the longer one before it"
    );
    let claims = join_all((0..8).map(|_| jobs.claim("a", LEASE))).await;
    let runs: Vec<_> = claims.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].due, Timestamp::UNIX_EPOCH);
    assert!(
        jobs.next_due(&["a"]).await.unwrap().unwrap() > now,
        "its lease has to end first"
    );
    jobs.finish(&runs[0], later).await.unwrap();
    let listed = jobs.list().await.unwrap();
    assert_eq!(listed[0].next_run.as_microsecond(), later.as_microsecond());
    assert!(listed[0].last_run.is_some() && listed[0].claimed_until.is_none());
}

async fn a_lost_claim_can_not_finish(place: Place) {
    let store = place.open().await;
    let jobs = store.jobs();
    jobs.declare("a", Timestamp::UNIX_EPOCH).await.unwrap();
    let first = jobs.claim("a", Duration::ZERO).await.unwrap().unwrap();
    let second = jobs
        .claim("a", LEASE)
        .await
        .unwrap()
        .expect("the lease has ended");
    let late = jobs.finish(&first, Timestamp::MAX).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
    jobs.finish(&second, Timestamp::UNIX_EPOCH).await.unwrap();
}

async fn failures_are_counted_and_seen(place: Place) {
    let store = place.open().await;
    let jobs = store.jobs();
    jobs.declare("a", Timestamp::UNIX_EPOCH).await.unwrap();
    for failures in 1..4 {
        let run = jobs.claim("a", LEASE).await.unwrap().unwrap();
        let error = Error::invalid("bad", "the disk is made of cheese");
        jobs.fail(&run, &error, Timestamp::UNIX_EPOCH)
            .await
            .unwrap();
        let job = jobs.list().await.unwrap().remove(0);
        assert_eq!(job.failures, failures);
        assert_eq!(
            job.last_error.as_deref(),
            Some("the disk is made of cheese")
        );
    }
    let run = jobs.claim("a", LEASE).await.unwrap().unwrap();
    jobs.finish(&run, Timestamp::UNIX_EPOCH).await.unwrap();
    let job = jobs.list().await.unwrap().remove(0);
    assert_eq!((job.failures, job.last_error), (0, None));
}

async fn a_finish_commits_with_the_work(place: Place) {
    let store = place.open().await;
    let jobs = store.jobs();
    jobs.declare("a", Timestamp::UNIX_EPOCH).await.unwrap();
    let run = jobs.claim("a", LEASE).await.unwrap().unwrap();
    let next = Env::system().now().checked_add(LEASE).unwrap();
    let mut tx = store.begin().await.unwrap();
    tx.finish_job(&run, next).await.unwrap();
    drop(tx);
    assert_eq!(
        jobs.list().await.unwrap()[0].next_run,
        Timestamp::UNIX_EPOCH
    );
    let mut tx = store.begin().await.unwrap();
    tx.finish_job(&run, next).await.unwrap();
    tx.commit().await.unwrap();
    let stored = jobs.list().await.unwrap()[0].next_run;
    assert_eq!(stored.as_microsecond(), next.as_microsecond());
}
