//! How many instances there are, for a look at the whole.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::Row;
use trunkline_core::Result;

use super::Sagas;
use crate::error::sql_error;

// The index by state has all but those that are completed, and that by time those that nobody has.
const STANDING: &str = "SELECT state, CAST(COUNT(*) AS BIGINT) FROM trunkline_saga \
    WHERE state IN ('running', 'waiting', 'compensating', 'parked') GROUP BY state";
const OVERDUE: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM trunkline_saga \
    WHERE owner IS NULL AND wake_at IS NOT NULL AND wake_at < $1 \
    AND state IN ('running', 'waiting', 'compensating')";

/// How many instances of a service's sagas have not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Standing {
    /// Their functions run, or will.
    pub running: u64,
    /// They rest until a time or a message comes.
    pub waiting: u64,
    /// What they did is being undone.
    pub compensating: u64,
    /// They can't go on by themselves.
    pub parked: u64,
    /// Of the first three, those that were to be taken up before a certain time, and that nobody has.
    pub overdue: u64,
}

impl Sagas {
    /// How they stand; overdue is what was to be taken up before `due`.
    ///
    /// # Errors
    /// As [`Store::read`](crate::Store::read).
    pub async fn standing(&self, due: Timestamp) -> Result<Standing> {
        let mut reader = self.store.read().await?;
        let rows = sqlx::query(STANDING).fetch_all(reader.conn()).await;
        let mut standing = Standing::default();
        for row in rows.map_err(sql_error)? {
            let state: String = row.try_get(0).map_err(sql_error)?;
            let count = count(row.try_get(1).map_err(sql_error)?);
            match &*state {
                "running" => standing.running = count,
                "waiting" => standing.waiting = count,
                "compensating" => standing.compensating = count,
                _ => standing.parked = count,
            }
        }
        let row = sqlx::query(OVERDUE)
            .bind(due.as_microsecond())
            .fetch_one(reader.conn())
            .await
            .map_err(sql_error)?;
        standing.overdue = count(row.try_get(0).map_err(sql_error)?);
        Ok(standing)
    }
}

fn count(found: i64) -> u64 {
    u64::try_from(found).unwrap_or(0)
}
