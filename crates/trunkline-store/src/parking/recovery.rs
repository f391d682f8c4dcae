//! Dead letters that their service decides about by itself.

use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use trunkline_bus::{Change, DeadLetter};
use trunkline_core::Result;

use super::{COLUMNS, letter, news};
use crate::error::sql_error;
use crate::store::Backend;
use crate::{Alert, Store, Tx, text};

/// At most so many are read at once.
const PAGE: u32 = 64;

const UNDECIDED: &str =
    "WHERE consumer = $1 AND error IS NOT NULL AND decided_at IS NULL ORDER BY seq";

// A letter that is not the first of its key waits for those before it, whatever was decided about it.
const SCHEDULED: &str = "WHERE consumer = $1 AND retry_at IS NOT NULL AND NOT EXISTS \
    (SELECT 1 FROM trunkline_dead_letter AS earlier WHERE earlier.consumer = trunkline_dead_letter.consumer \
    AND earlier.key = trunkline_dead_letter.key AND earlier.seq < trunkline_dead_letter.seq) \
    ORDER BY retry_at, seq";

// A letter that has failed again has more attempts, and whoever decided about the last one is too late.
const DECIDE: &str = "UPDATE trunkline_dead_letter SET decided_at = $1, retry_at = $2, \
    recoveries = recoveries + $3 WHERE id = $4 AND attempts = $5 AND decided_at IS NULL";

const KEEP: &str =
    "UPDATE trunkline_dead_letter SET retry_at = NULL WHERE id = $1 AND retry_at = $2";

/// The dead letters of a service that it decides about by itself, in whichever of its processes.
///
/// # Guarantees
/// A letter is undecided from each of its failures on, until a decision about that very failure is committed, of which there is
/// one ([`Tx::decide`]). One that is to be replayed is scheduled until it has been, or failed again, or is kept.
#[derive(Debug, Clone)]
pub struct Recoveries {
    store: Store,
}

impl Recoveries {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// The oldest letters of a group that have failed and are not decided about: some, or all.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn undecided(&self, group: &str) -> Result<Vec<DeadLetter>> {
        self.select(UNDECIDED, group, PAGE).await
    }

    /// The letter of a group that is to be replayed next, now or later. One that waits behind another of its key is not.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn scheduled(&self, group: &str) -> Result<Option<DeadLetter>> {
        let found = self.select(SCHEDULED, group, 1).await?;
        Ok(found.into_iter().next())
    }

    /// Keeps a letter that was to be replayed at this time of its own.
    ///
    /// # Errors
    /// As any transaction.
    pub async fn keep(&self, letter: &DeadLetter) -> Result<()> {
        let mut tx = self.store.begin().await?;
        sqlx::query(KEEP)
            .bind(text::write(&letter.id).into_owned())
            .bind(letter.retry_at.map(|at| at.as_microsecond()))
            .execute(tx.conn())
            .await
            .map_err(sql_error)?;
        tx.commit().await
    }

    async fn select(&self, wheres: &str, group: &str, max: u32) -> Result<Vec<DeadLetter>> {
        let mut reader = self.store.read().await?;
        let rows = sqlx::query(AssertSqlSafe(format!("{COLUMNS} {wheres} LIMIT {max}")))
            .bind(text::write(group).into_owned())
            .fetch_all(reader.conn())
            .await
            .map_err(sql_error)?;
        rows.iter().map(letter).collect()
    }
}

pub(crate) async fn decide(
    tx: &mut Tx,
    letter: &DeadLetter,
    retry_at: Option<Timestamp>,
) -> Result<bool> {
    let store = tx.store().clone();
    let decided = sqlx::query(DECIDE)
        .bind(store.now_micros())
        .bind(retry_at.map(|at| at.as_microsecond()))
        .bind(i64::from(retry_at.is_some()))
        .bind(text::write(&letter.id).into_owned())
        .bind(i64::from(letter.attempts))
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
    if let Backend::Postgres(postgres) = store.backend() {
        // Another process replays it, should this one die.
        let change = Change::Parked {
            group: letter.group.clone(),
            key: letter.key.clone(),
        };
        news::notify(tx, postgres, store.owner(), &change).await?;
    }
    let is_current = decided.rows_affected() > 0;
    if is_current {
        tx.alert(|_| Alert::decided(letter, retry_at)).await?;
    }
    Ok(is_current)
}
