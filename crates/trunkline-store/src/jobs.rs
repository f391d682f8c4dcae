//! Jobs: when each runs next, durably.

use std::time::Duration;

use jiff::Timestamp;
use trunkline_core::{Error, Result};

use crate::Store;
use crate::error::unfinished;

/// The jobs of one service.
#[derive(Debug, Clone)]
pub struct Jobs {
    #[expect(dead_code, reason = "the insides are not written yet")]
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
    pub(crate) fence: i64,
}

impl Jobs {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Makes the job exist; one that does keeps its next run, which is returned.
    pub async fn declare(&self, name: &str, first_run: Timestamp) -> Result<Timestamp> {
        let _ = (name, first_run);
        Err(unfinished())
    }

    /// When the next of these jobs is due, or its lease ends; none when there are none.
    pub async fn next_due(&self, names: &[&str]) -> Result<Option<Timestamp>> {
        let _ = names;
        Err(unfinished())
    }

    /// Takes the job if it is due and nobody else holds it.
    pub async fn claim(&self, name: &str, lease: Duration) -> Result<Option<JobRun>> {
        let _ = (name, lease);
        Err(unfinished())
    }

    /// Ends a run that succeeded. To commit this with the run's own work, use [`crate::Tx::finish_job`].
    pub async fn finish(&self, run: &JobRun, next: Timestamp) -> Result<()> {
        let _ = (run, next);
        Err(unfinished())
    }

    /// Ends a run that failed.
    pub async fn fail(&self, run: &JobRun, error: &Error, next: Timestamp) -> Result<()> {
        let _ = (run, error, next);
        Err(unfinished())
    }

    /// All jobs, by name.
    pub async fn list(&self) -> Result<Vec<Job>> {
        Err(unfinished())
    }
}
