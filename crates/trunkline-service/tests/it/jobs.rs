//! Jobs: again and again, one run at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use trunkline_core::{Error, Result};
use trunkline_service::{Cx, Platform, Schedule, Service, every};
use trunkline_testkit::eventually;

use crate::sample::{SOON, Sample, Switches};

/// Counts its runs, and says how many ran at once.
async fn job(cx: Cx) -> Result<()> {
    let switches = cx.state::<Arc<Switches>>()?;
    let now = switches.at_once.fetch_add(1, Ordering::SeqCst);
    assert_eq!(now, 0, "another run is under way");
    tokio::task::yield_now().await;
    switches.at_once.fetch_sub(1, Ordering::SeqCst);
    match switches.runs.fetch_add(1, Ordering::SeqCst) {
        1 => Err(Error::unavailable("busy", "not now")),
        2 => panic!("this run goes wrong"),
        _ => Ok(()),
    }
}

fn platform(schedule: Schedule, switches: &Arc<Switches>) -> Platform {
    let service = Service::new("tidy")
        .state(switches.clone())
        .job("sweep", schedule, job);
    Platform::new("jobs").service(service)
}

#[tokio::test]
async fn a_job_runs_again_after_a_failure_and_a_panic() {
    let switches = Arc::new(Switches::default());
    let platform = platform(every(Duration::from_millis(10)), &switches);
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start_this(platform, switches.clone(), folder).await;
    eventually(SOON, async || switches.runs.load(Ordering::SeqCst) > 5).await;
    sample.stop().await;
}

#[tokio::test]
async fn when_it_runs_next_outlives_the_process() {
    // Due in a while; the second process takes over what the first one wrote down.
    let switches = Arc::new(Switches::default());
    let soon = every(Duration::from_millis(300));
    let folder = tempfile::tempdir().unwrap();
    let first = Sample::start_this(platform(soon, &switches), switches.clone(), folder).await;
    let folder = first.stop().await;
    assert_eq!(switches.runs.load(Ordering::SeqCst), 0);
    let yearly = Schedule::Cron("0 0 1 1 *");
    let second = Sample::start_this(platform(yearly, &switches), switches.clone(), folder).await;
    eventually(SOON, async || switches.runs.load(Ordering::SeqCst) == 1).await;
    second.stop().await;
}

#[tokio::test]
async fn a_run_under_way_ends_before_the_shutdown_does() {
    static ENDED: AtomicU32 = AtomicU32::new(0);
    async fn slow(cx: Cx) -> Result<()> {
        let switches = cx.state::<Arc<Switches>>()?;
        switches.began.notify_one();
        switches.go.notified().await;
        ENDED.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
    let switches = Arc::new(Switches::default());
    let often = every(Duration::from_millis(1));
    let service = Service::new("tidy")
        .state(switches.clone())
        .job("slow", often, slow);
    let platform = Platform::new("jobs").service(service);
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start_this(platform, switches.clone(), folder).await;
    switches.began.notified().await;
    let stopped = sample.stop();
    let let_go = async { switches.go.notify_one() };
    tokio::join!(stopped, let_go);
    assert_eq!(ENDED.load(Ordering::SeqCst), 1);
}
