//! What the people who look after a platform are to be told, written down in the transaction that it is about.

mod told;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};
use trunkline_bus::Reservation;
use trunkline_core::{ByteString, Result};

use crate::error::sql_error;
use crate::parking::reserve;
use crate::{Store, Tx, text};

/// At most so many are read at once.
const PAGE: u32 = 1_000;

const ADD: &str = "INSERT INTO trunkline_alert \
    (alert, about, subject, correlation_id, told, made_at) VALUES ($1, $2, $3, $4, $5, $6)";

const LIST: &str = "SELECT seq, alert, about, subject, correlation_id, told FROM trunkline_alert \
    ORDER BY seq LIMIT ";

const GIVE_UP: &str = "DELETE FROM trunkline_alert WHERE made_at < $1 OR seq <= \
    (SELECT seq FROM trunkline_alert ORDER BY seq DESC LIMIT 1 OFFSET $2)";

/// Something that happened and that nobody was told of yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Its place among all of its store; 0 before it is written.
    pub seq: i64,
    /// What happened: `dead_letter`, `dead_letter_decided`, `dead_letter_recovered`, `saga_parked`.
    pub alert: ByteString,
    /// What it is one of many of: the letter's group, or the saga's name.
    pub about: ByteString,
    /// The id of the letter, or of the saga's instance.
    pub subject: ByteString,
    /// The business flow.
    pub correlation_id: ByteString,
    /// All that is told of it, an object.
    pub told: Value,
}

/// The alerts of a store that wait to be sent. They are written where [`crate::StoreConfig::alerts`] says so.
///
/// # Guarantees
/// An alert is there if and only if what it tells of was committed, until it is removed.
#[derive(Debug, Clone)]
pub struct Alerts {
    store: Store,
}

impl Alerts {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// The oldest, at most 1,000, in the order in which they were written. They are on disk.
    ///
    /// # Errors
    /// As [`Store::read`] and [`Store::settled`].
    pub async fn waiting(&self) -> Result<Vec<Alert>> {
        let mut reader = self.store.read().await?;
        let rows = sqlx::query(AssertSqlSafe(format!("{LIST}{PAGE}")))
            .fetch_all(reader.conn())
            .await
            .map_err(sql_error)?;
        drop(reader);
        self.store.settled().await?;
        rows.iter().map(read).collect()
    }

    /// Returns when this process has written one since it last did.
    pub async fn written(&self) {
        self.store.alerted().notified().await;
    }

    /// The right to send them, which one process has at a time; none while another has it.
    ///
    /// # Errors
    /// As [`Store::begin`].
    pub async fn reserve(&self) -> Result<Option<Box<dyn Reservation>>> {
        reserve(&self.store, ("alerts", "")).await
    }

    /// Removes those that were sent. Should the machine die in the next moment, they are sent again.
    ///
    /// # Errors
    /// As any transaction.
    pub async fn remove(&self, seqs: &[i64]) -> Result<()> {
        let seqs: Vec<String> = seqs.iter().map(i64::to_string).collect();
        let sql = format!(
            "DELETE FROM trunkline_alert WHERE seq IN ({})",
            seqs.join(",")
        );
        let mut tx = self.store.begin_relaxed().await?;
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(tx.conn())
            .await
            .map_err(sql_error)?;
        tx.commit().await
    }

    /// Removes those that wait for longer than `age_max`, and the oldest of more than `count_max`. Says how many.
    ///
    /// # Errors
    /// As any transaction.
    pub async fn give_up(&self, age_max: Duration, count_max: u32) -> Result<u64> {
        let now = self.store.env().now();
        let before = now.checked_sub(age_max).unwrap_or(Timestamp::MIN);
        let mut tx = self.store.begin_relaxed().await?;
        let done = sqlx::query(GIVE_UP)
            .bind(before.as_microsecond())
            .bind(i64::from(count_max))
            .execute(tx.conn())
            .await
            .map_err(sql_error)?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }
}

impl Tx {
    /// Writes an alert down, if this store's are sent by somebody.
    pub(crate) async fn alert(&mut self, alert: impl FnOnce(&Store) -> Alert) -> Result<()> {
        if !self.store().config().alerts {
            return Ok(());
        }
        let alert = alert(self.store());
        let now = self.store().now_micros();
        sqlx::query(ADD)
            .bind(text::write(&alert.alert).into_owned())
            .bind(text::write(&alert.about).into_owned())
            .bind(text::write(&alert.subject).into_owned())
            .bind(text::write(&alert.correlation_id).into_owned())
            .bind(alert.told.to_string())
            .bind(now)
            .execute(self.conn())
            .await
            .map_err(sql_error)?;
        self.note_alert();
        Ok(())
    }
}

fn read(row: &AnyRow) -> Result<Alert> {
    let read = || -> Result<Alert, sqlx::Error> {
        let name = |at: usize| row.try_get(at).map(text::read);
        let told: String = row.try_get(5)?;
        Ok(Alert {
            seq: row.try_get(0)?,
            alert: name(1)?,
            about: name(2)?,
            subject: name(3)?,
            correlation_id: name(4)?,
            told: serde_json::from_str(&told).map_err(|error| sqlx::Error::Decode(error.into()))?,
        })
    };
    read().map_err(sql_error)
}
