//! Jobs: when each runs next, durably.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use trunkline_core::{Error, Result, report};

use crate::Store;
use crate::error::sql_error;

const LIST: &str = "SELECT name, next_run, last_run, last_error, failures, claimed_until \
    FROM trunkline_job ORDER BY name";

const CLAIM: &str = "UPDATE trunkline_job SET owner = $1, claimed_until = $2, fence = fence + 1 \
    WHERE name = $3 AND next_run <= $4 AND (claimed_until IS NULL OR claimed_until <= $4)";

const CLAIMED: &str = "SELECT next_run, fence FROM trunkline_job WHERE name = $1";

const FINISH: &str = "UPDATE trunkline_job SET next_run = $1, last_run = $2, last_error = NULL, \
    failures = 0, owner = NULL, claimed_until = NULL WHERE name = $3 AND fence = $4";

const FAIL: &str = "UPDATE trunkline_job SET next_run = $1, last_error = $2, \
    failures = failures + 1, owner = NULL, claimed_until = NULL WHERE name = $3 AND fence = $4";

/// How soon a run that another process holds is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The jobs of one service, whichever of its replicas runs them.
///
/// # Guarantees
/// A run that is due is never forgotten: its row stays due until the run is finished or has failed. At
/// any time one process holds a job; should its lease end before it does, another may begin, and the
/// first can no longer finish. Whether a lease has ended is told by the clock of whoever asks: clocks
/// that differ by less than the lease has left when its run ends change nothing.
#[derive(Debug, Clone)]
pub struct Jobs {
    store: Store,
}

/// A job as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// When it is due next.
    pub next_run: Timestamp,
    /// When it was last finished.
    pub last_run: Option<Timestamp>,
    /// Why it failed last; none after a success.
    pub last_error: Option<String>,
    /// How often it has failed since its last success.
    pub failures: u32,
    /// Until when somebody holds its current run.
    pub claimed_until: Option<Timestamp>,
}

/// The right to run a job once, until its lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRun {
    /// The job.
    pub name: String,
    /// When it was due.
    pub due: Timestamp,
    /// When the lease ends.
    pub until: Timestamp,
    fence: i64,
}

impl Jobs {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Makes the job exist; one that does keeps its next run, unless its schedule is a shorter one now and says an
    /// earlier. Returns the next run.
    ///
    /// # Errors
    /// As any transaction.
    pub async fn declare(&self, name: &str, first_run: Timestamp) -> Result<Timestamp> {
        let mut tx = self.store.begin().await?;
        sqlx::query(
            "INSERT INTO trunkline_job (name, next_run, failures, fence) VALUES ($1, $2, 0, 0) \
             ON CONFLICT (name) DO UPDATE SET next_run = excluded.next_run \
             WHERE trunkline_job.next_run > excluded.next_run",
        )
        .bind(name)
        .bind(first_run.as_microsecond())
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
        let row = sqlx::query(CLAIMED)
            .bind(name)
            .fetch_one(tx.conn())
            .await
            .map_err(sql_error)?;
        tx.commit().await?;
        timestamp(&row, 0).map_err(sql_error)
    }

    /// When to try to claim the next of these jobs; none when none of them exists. A run that somebody
    /// else holds may end before its lease, so that is looked at again within ten seconds.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn next_due(&self, names: &[&str]) -> Result<Option<Timestamp>> {
        let jobs = self.list().await?;
        let now = self.store.env().now();
        let soon = now.checked_add(LOOK_AGAIN).unwrap_or(now);
        Ok(jobs
            .iter()
            .filter(|job| names.contains(&job.name.as_str()))
            .map(|job| {
                job.claimed_until
                    .map_or(job.next_run, |until| until.min(soon).max(job.next_run))
            })
            .min())
    }

    /// Takes the job if it is due and nobody else holds it.
    ///
    /// # Errors
    /// As any transaction.
    pub async fn claim(&self, name: &str, lease: Duration) -> Result<Option<JobRun>> {
        let now = self.store.env().now();
        let until = now.checked_add(lease).unwrap_or(Timestamp::MAX);
        let mut tx = self.store.begin().await?;
        let taken = sqlx::query(CLAIM)
            .bind(self.store.owner())
            .bind(until.as_microsecond())
            .bind(name)
            .bind(now.as_microsecond())
            .execute(tx.conn())
            .await
            .map_err(sql_error)?;
        if taken.rows_affected() == 0 {
            return Ok(None);
        }
        let row = sqlx::query(CLAIMED)
            .bind(name)
            .fetch_one(tx.conn())
            .await
            .map_err(sql_error)?;
        tx.commit().await?;
        let due = timestamp(&row, 0).map_err(sql_error)?;
        let fence = row.try_get(1).map_err(sql_error)?;
        Ok(Some(JobRun {
            name: name.to_owned(),
            due,
            until,
            fence,
        }))
    }

    /// Ends a run that succeeded. To commit this with the run's own work, use [`crate::Tx::finish_job`].
    ///
    /// # Errors
    /// `Conflict` when the claim has run out and another has taken it.
    pub async fn finish(&self, run: &JobRun, next: Timestamp) -> Result<()> {
        let mut tx = self.store.begin().await?;
        finish(&self.store, tx.conn(), run, next).await?;
        tx.commit().await
    }

    /// Ends a run that failed.
    ///
    /// # Errors
    /// `Conflict` when the claim has run out and another has taken it.
    pub async fn fail(&self, run: &JobRun, error: &Error, next: Timestamp) -> Result<()> {
        let reason = report(error).to_string();
        let mut tx = self.store.begin().await?;
        let done = sqlx::query(FAIL)
            .bind(next.as_microsecond())
            .bind(reason)
            .bind(run.name.as_str())
            .bind(run.fence)
            .execute(tx.conn())
            .await
            .map_err(sql_error)?;
        held(done.rows_affected(), run)?;
        tx.commit().await
    }

    /// All jobs, by name.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn list(&self) -> Result<Vec<Job>> {
        let mut reader = self.store.read().await?;
        let rows = sqlx::query(LIST)
            .fetch_all(reader.conn())
            .await
            .map_err(sql_error)?;
        rows.iter()
            .map(job)
            .collect::<Result<_, _>>()
            .map_err(sql_error)
    }
}

pub(crate) async fn finish(
    store: &Store,
    conn: &mut AnyConnection,
    run: &JobRun,
    next: Timestamp,
) -> Result<()> {
    let done = sqlx::query(FINISH)
        .bind(next.as_microsecond())
        .bind(store.now_micros())
        .bind(run.name.as_str())
        .bind(run.fence)
        .execute(conn)
        .await
        .map_err(sql_error)?;
    held(done.rows_affected(), run)
}

fn held(rows: u64, run: &JobRun) -> Result<()> {
    if rows > 0 {
        return Ok(());
    }
    Err(Error::conflict(
        "job_lost",
        "the job's lease has ended and another has taken it",
    )
    .with("job", &run.name))
}

fn job(row: &AnyRow) -> Result<Job, sqlx::Error> {
    Ok(Job {
        name: row.try_get(0)?,
        next_run: timestamp(row, 1)?,
        last_run: optional_timestamp(row, 2)?,
        last_error: row.try_get(3)?,
        failures: u32::try_from(row.try_get::<i64, _>(4)?).unwrap_or(u32::MAX),
        claimed_until: optional_timestamp(row, 5)?,
    })
}

/// A time stored as microseconds.
pub(crate) fn timestamp(row: &AnyRow, at: usize) -> Result<Timestamp, sqlx::Error> {
    let micros = row.try_get(at)?;
    Timestamp::from_microsecond(micros).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// A time stored as microseconds, or none.
pub(crate) fn optional_timestamp(
    row: &AnyRow,
    at: usize,
) -> Result<Option<Timestamp>, sqlx::Error> {
    let micros: Option<i64> = row.try_get(at)?;
    micros
        .map(Timestamp::from_microsecond)
        .transpose()
        .map_err(|error| sqlx::Error::Decode(error.into()))
}
