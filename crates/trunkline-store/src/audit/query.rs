//! Finding entries.

use bytestring::ByteString;
use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};
use trunkline_core::Result;
use trunkline_security::{AuditEntry, AuditOutcome};

use super::{AuditLog, stored};
use crate::error::{corrupt, sql_error};
use crate::text;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;

const COLUMNS: &str = "SELECT position, hash, entry_id, happened_at, actor, action, object, outcome, \
    reason, correlation_id FROM trunkline_audit";

/// Which entries: those that match all that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Of whom.
    pub actor: Option<String>,
    /// That did what.
    pub action: Option<String>,
    /// That ended how.
    pub outcome: Option<AuditOutcome>,
    /// Of this flow.
    pub correlation_id: Option<ByteString>,
    /// At or after this time.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// Only those after this position, or before it with `newest_first`.
    pub after: Option<u64>,
    /// The newest first.
    pub newest_first: bool,
    /// At most this many; 0 means 100. At most 1,000.
    pub limit: usize,
}

/// An entry with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditRecord {
    /// Its place: the cursor for [`AuditQuery::after`].
    pub position: u64,
    /// The entry.
    pub entry: AuditEntry,
}

enum Bound {
    Text(String),
    Number(i64),
}

impl AuditLog {
    /// Entries that match, in the order of appending.
    ///
    /// # Errors
    /// As [`crate::Store::read`]; `Corrupt` for an entry that can't be read.
    pub async fn query(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>> {
        let (sql, bounds) = query.sql();
        let mut select = sqlx::query(AssertSqlSafe(sql));
        for bound in bounds {
            select = match bound {
                Bound::Text(text) => select.bind(text),
                Bound::Number(number) => select.bind(number),
            };
        }
        let mut reader = self.store.read().await?;
        let rows = select.fetch_all(reader.conn()).await.map_err(sql_error)?;
        rows.iter().map(AuditRecord::read).collect()
    }
}

impl AuditQuery {
    fn sql(&self) -> (String, Vec<Bound>) {
        let outcome = self.outcome.map(AuditOutcome::name);
        let texts = [
            ("actor", self.actor.as_deref()),
            ("action", self.action.as_deref()),
            ("outcome", outcome),
            ("correlation_id", self.correlation_id.as_deref()),
        ];
        let mut wheres = Vec::new();
        let mut bounds = Vec::new();
        for (column, text) in texts {
            if let Some(text) = text {
                bounds.push(Bound::Text(stored(text)));
                wheres.push(format!("{column} = ${}", bounds.len()));
            }
        }
        let beyond = if self.newest_first { "<" } else { ">" };
        let after = self
            .after
            .map(|after| i64::try_from(after).unwrap_or(i64::MAX));
        let numbers = [
            ("happened_at >=", self.since.map(Timestamp::as_microsecond)),
            ("happened_at <", self.until.map(Timestamp::as_microsecond)),
            (&*format!("position {beyond}"), after),
        ];
        for (column, number) in numbers {
            if let Some(number) = number {
                bounds.push(Bound::Number(number));
                wheres.push(format!("{column} ${}", bounds.len()));
            }
        }
        let wheres = if wheres.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", wheres.join(" AND "))
        };
        let order = if self.newest_first { " DESC" } else { "" };
        let limit = match self.limit {
            0 => LIMIT_DEFAULT,
            limit => limit.min(LIMIT_MAX),
        };
        let sql = format!("{COLUMNS}{wheres} ORDER BY position{order} LIMIT {limit}");
        (sql, bounds)
    }
}

impl AuditRecord {
    pub(super) fn read(row: &AnyRow) -> Result<Self> {
        let position: i64 = row.try_get(0).map_err(sql_error)?;
        let text = |column: usize| -> Result<ByteString> {
            row.try_get(column).map(text::read).map_err(sql_error)
        };
        let maybe = |column: usize| -> Result<Option<ByteString>> {
            let found: Option<String> = row.try_get(column).map_err(sql_error)?;
            Ok(found.map(text::read))
        };
        let outcome = AuditOutcome::named(&text(7)?)
            .ok_or_else(|| corrupt("the outcome of an audit entry is none"))?;
        let at: i64 = row.try_get(3).map_err(sql_error)?;
        let entry = AuditEntry::stored(
            text(2)?,
            Timestamp::from_microsecond(at)
                .map_err(|_| corrupt("the time of an audit entry is none"))?,
            [text(4)?, text(5)?, text(6)?].map(|text| text.to_string()),
            outcome,
            (maybe(8)?.map(|reason| reason.to_string()), maybe(9)?),
        );
        Ok(Self {
            position: u64::try_from(position).unwrap_or(0),
            entry,
        })
    }
}
