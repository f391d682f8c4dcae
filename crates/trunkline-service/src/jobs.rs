//! Jobs: what runs again and again.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use trunkline_core::{Context, Error, ErrorKind, Result, Timestamp, report};
use trunkline_store::JobRun;
use trunkline_telemetry::{Scope, SpanKind};

use crate::Cx;
use crate::runtime::Runtime;
use crate::service::StartHandler;

/// When a job runs.
#[derive(Debug, Clone)]
pub enum Schedule {
    /// Every so often.
    Every(Duration),
    /// As a cron pattern says, in UTC: `minute hour day month weekday`.
    Cron(&'static str),
}

pub(crate) struct JobDecl {
    pub(crate) name: &'static str,
    pub(crate) schedule: Schedule,
    pub(crate) run: StartHandler,
}

/// How long a run may take.
const RUN_WITHIN: Duration = Duration::from_secs(300);

/// How long one process holds a run: longer, so that it has ended by then.
const LEASE: Duration = Duration::from_secs(330);

/// When the store can't say when the next run is due, it is asked again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

impl Schedule {
    /// The first time after `now`.
    pub(crate) fn next(&self, now: Timestamp) -> Result<Timestamp> {
        match self {
            Self::Every(interval) if interval.is_zero() => Err(Error::invalid(
                "interval_invalid",
                "expected an interval above zero",
            )),
            Self::Every(interval) => Ok(now.checked_add(*interval).unwrap_or(Timestamp::MAX)),
            Self::Cron(pattern) => {
                let bad = |why: String| {
                    Error::invalid("cron_invalid", format!("expected a cron pattern: {why}"))
                        .with("pattern", pattern)
                };
                let cron: croner::Cron = pattern
                    .parse()
                    .map_err(|error: croner::errors::CronError| bad(error.to_string()))?;
                let now = chrono::DateTime::from_timestamp(now.as_second(), 0)
                    .ok_or_else(|| bad("the clock is out of range".to_owned()))?;
                let next = cron
                    .find_next_occurrence(&now, false)
                    .map_err(|error| bad(error.to_string()))?;
                Timestamp::from_second(next.timestamp()).map_err(|error| bad(error.to_string()))
            }
        }
    }
}

/// Writes down when a job runs first; one that is known keeps its time.
pub(crate) async fn declare(runtime: &Runtime, job: &JobDecl) -> Result<()> {
    let first = job.schedule.next(runtime.env.now())?;
    let jobs = runtime.store.jobs();
    jobs.declare(job.name, first).await.map(drop)
}

/// Runs a job, once declared, whenever it is due, until `stop`.
pub(crate) async fn run(runtime: Arc<Runtime>, job: JobDecl, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let wait = match due(&runtime, &job).await {
            Ok(due) => {
                Duration::try_from(due.duration_since(runtime.env.now())).unwrap_or_default()
            }
            Err(error) => {
                warn(&runtime, &job, &error);
                LOOK_AGAIN
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        if let Err(error) = attempt(&runtime, &job).await {
            warn(&runtime, &job, &error);
        }
    }
}

fn warn(runtime: &Runtime, job: &JobDecl, error: &Error) {
    tracing::warn!(service = &*runtime.name, job = job.name, error = %report(error), "a job failed");
}

async fn due(runtime: &Runtime, job: &JobDecl) -> Result<Timestamp> {
    let due = runtime.store.jobs().next_due(&[job.name]).await?;
    Ok(due.unwrap_or(Timestamp::MAX))
}

async fn attempt(runtime: &Arc<Runtime>, job: &JobDecl) -> Result<()> {
    let Some(claimed) = runtime.store.jobs().claim(job.name, LEASE).await? else {
        return Ok(());
    };
    let next = job.schedule.next(runtime.env.now())?;
    let name = format!("job {}", job.name);
    let mut span = runtime
        .telemetry
        .span(SpanKind::Internal, name, &runtime.name, None);
    let mut context = Context::root(&runtime.env);
    context.trace = span.context();
    let scope = Scope::new(&runtime.name, &context);
    let cx = Cx::new(runtime.clone(), context);
    let run = async {
        let done = match within_lease(job, &cx).await {
            Ok(()) => commit(&cx, &claimed, next).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            warn(runtime, job, &error);
            span.fail(&error);
            cx.undo().await;
            runtime.store.jobs().fail(&claimed, &error, next).await?;
        }
        Ok(())
    };
    scope.run(run).await
}

/// Runs the handler, which may panic or take too long.
async fn within_lease(job: &JobDecl, cx: &Cx) -> Result<()> {
    let run = AssertUnwindSafe((job.run)(cx.clone())).catch_unwind();
    match tokio::time::timeout(RUN_WITHIN, run).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err(Error::internal("the job panicked")),
        Err(_) => Err(Error::new(
            ErrorKind::DeadlineExceeded,
            "job_too_long",
            "the job took longer than five minutes",
        )),
    }
}

async fn commit(cx: &Cx, claimed: &JobRun, next: Timestamp) -> Result<()> {
    cx.tx().await?.finish_job(claimed, next).await?;
    cx.finish(None).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_says_when_it_is_next() {
        let now: Timestamp = "2026-11-21T10:30:15Z".parse().unwrap();
        let next = |schedule: Schedule| schedule.next(now).unwrap().to_string();
        assert_eq!(
            next(Schedule::Every(Duration::from_secs(60))),
            "2026-11-21T10:31:15Z"
        );
        assert_eq!(next(Schedule::Cron("0 3 * * *")), "2026-11-22T03:00:00Z");
        assert!(Schedule::Cron("every day").next(now).is_err());
    }
}
