//! Values that are sealed in their columns.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::AssertSqlSafe;
use trunkline_core::{Error, Result, Retry};
use trunkline_security::Keyring;

use crate::error::sql_error;
use crate::{Store, Tx};

/// Rows that are sealed anew in one transaction.
const STEP: i64 = 100;

/// A value that nobody reads in the database, nor in a log: it is sealed in its column, and `Debug` shows nothing of
/// it.
///
/// ```
/// # fn example(keys: &trunkline_security::Keyring) -> trunkline_core::Result<()> {
/// use trunkline_store::{Sealed, SealedColumn};
///
/// const IBAN: SealedColumn = SealedColumn::new("customer", "iban", "customer_id");
///
/// let iban = Sealed::new("DE89370400440532013000".to_owned());
/// let stored = iban.seal(keys, IBAN, "c-1")?;
/// assert_eq!(Sealed::<String>::open(&stored, keys, IBAN, "c-1")?.reveal(), iban.reveal());
/// # Ok(())
/// # }
/// ```
///
/// # Guarantees
/// It opens only in its own column of its own row: moved elsewhere, changed, or with a wrong key it is refused
/// (`sealed_invalid`, permanent); a key that is not here is told apart (`sealing_key_missing`).
///
/// # Shape
/// The value's JSON, sealed as [`Keyring::seal_text`] does; the column is TEXT.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed<T>(T);

/// A column of sealed values.
///
/// # Shape
/// Names are of lower-case letters, digits and `_`; the key's column is TEXT and unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedColumn {
    table: &'static str,
    column: &'static str,
    key: &'static str,
}

/// What [`reseal`] did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Resealed {
    /// Rows that are sealed with the key that seals now.
    pub resealed: u64,
    /// Rows that could not be opened, and stay as they are.
    pub failed: u64,
    /// Why, for the first of them.
    pub first_failure: Option<Error>,
    /// Where to go on: the key of the last row that was looked at, if there may be more.
    pub next: Option<String>,
}

impl<T> Sealed<T> {
    /// A value to be sealed.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself.
    pub fn reveal(&self) -> &T {
        &self.0
    }

    /// The value itself.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T: Serialize> Sealed<T> {
    /// The text to be stored in `column` of the row with this key.
    ///
    /// # Errors
    /// `InvalidInput` where the value can't be written as JSON.
    pub fn seal(&self, keys: &Keyring, column: SealedColumn, row: &str) -> Result<String> {
        let json = serde_json::to_vec(&self.0).map_err(|error| {
            let text = "a value that is to be sealed can't be written as JSON";
            Error::invalid("sealed_value_invalid", text).with_source(error)
        })?;
        keys.seal_text(&json, &column.bound(row))
    }
}

impl<T: DeserializeOwned> Sealed<T> {
    /// The value that is stored in `column` of the row with this key.
    ///
    /// # Errors
    /// As [`Keyring::open_text`]; `InvalidInput` where what was sealed is no such value.
    pub fn open(stored: &str, keys: &Keyring, column: SealedColumn, row: &str) -> Result<Self> {
        let json = keys
            .open_text(stored, &column.bound(row))
            .map_err(|error| column.about(error))?;
        // What serde says may quote the value.
        serde_json::from_slice(&json).map(Self).map_err(|_| {
            let text = "what was sealed is no value of this type";
            column.about(Error::invalid("sealed_value_invalid", text))
        })
    }
}

impl<T> fmt::Debug for Sealed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(***)")
    }
}

impl SealedColumn {
    /// The column `column` of `table`, whose rows have their key in the column `key`.
    pub const fn new(table: &'static str, column: &'static str, key: &'static str) -> Self {
        Self { table, column, key }
    }

    /// What a value is bound to.
    fn bound(self, row: &str) -> Vec<u8> {
        serde_json::json!([self.table, self.column, row])
            .to_string()
            .into_bytes()
    }

    fn about(self, error: Error) -> Error {
        error.with("table", self.table).with("column", self.column)
    }

    fn check(self) -> Result<()> {
        let fits = |name: &str| {
            let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
            !name.is_empty() && name.bytes().all(plain)
        };
        if [self.table, self.column, self.key].into_iter().all(fits) {
            Ok(())
        } else {
            let text = "expected names of lower-case letters, digits and `_`";
            Err(self.about(Error::invalid("sealed_column_invalid", text)))
        }
    }
}

/// Seals rows of a column anew that another key sealed than the one that seals now: after a rotation, until none is
/// left and the old key can go. It looks at up to `rows_max` such rows with a key after `after`, in transactions of
/// 100.
///
/// # Guarantees
/// A row that is changed meanwhile keeps the change. One that does not open stays as it is and is counted.
///
/// # Errors
/// `InvalidInput` for a column whose names are none; as any transaction. What was done by then stays done.
pub async fn reseal(
    store: &Store,
    keys: &Keyring,
    column: SealedColumn,
    after: Option<&str>,
    rows_max: u64,
) -> Result<Resealed> {
    column.check()?;
    let mut done = Resealed {
        next: Some(after.unwrap_or_default().to_owned()),
        ..Resealed::default()
    };
    let mut left = i64::try_from(rows_max).unwrap_or(i64::MAX);
    while left > 0
        && let Some(after) = done.next.take()
    {
        let limit = left.min(STEP);
        let mut tx = store.begin().await?;
        let rows = old_rows(&mut tx, keys, column, &after, limit).await?;
        for (row, stored) in &rows {
            match again(&mut tx, keys, column, (row, stored)).await {
                Ok(changed) => done.resealed += changed,
                Err(error) if error.retry() == Retry::Permanent || is_missing(&error) => {
                    done.failed += 1;
                    done.first_failure.get_or_insert(error.with("row", row));
                }
                Err(error) => return Err(error),
            }
        }
        tx.commit().await?;
        let seen = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        left -= seen;
        if seen == limit {
            done.next = rows.into_iter().next_back().map(|(row, _)| row);
        }
    }
    Ok(done)
}

fn is_missing(error: &Error) -> bool {
    error.code() == "sealing_key_missing"
}

async fn old_rows(
    tx: &mut Tx,
    keys: &Keyring,
    column: SealedColumn,
    after: &str,
    limit: i64,
) -> Result<Vec<(String, String)>> {
    let SealedColumn { table, column, key } = column;
    let current = keys.text_prefix();
    let length = i64::try_from(current.len()).unwrap_or(i64::MAX);
    let sql = format!(
        "SELECT {key}, {column} FROM {table} WHERE {column} IS NOT NULL \
         AND substr({column}, 1, CAST($1 AS INTEGER)) <> $2 AND {key} > $3 ORDER BY {key} LIMIT $4"
    );
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(length)
        .bind(current)
        .bind(after.to_owned())
        .bind(limit)
        .fetch_all(tx.conn())
        .await
        .map_err(sql_error)
}

/// Seals one value anew, unless it has changed since.
async fn again(
    tx: &mut Tx,
    keys: &Keyring,
    sealed: SealedColumn,
    (row, stored): (&str, &str),
) -> Result<u64> {
    let bound = sealed.bound(row);
    let opened = keys
        .open_text(stored, &bound)
        .map_err(|error| sealed.about(error))?;
    let anew = keys.seal_text(&opened, &bound)?;
    let SealedColumn { table, column, key } = sealed;
    let sql = format!("UPDATE {table} SET {column} = $1 WHERE {key} = $2 AND {column} = $3");
    let done = sqlx::query(AssertSqlSafe(sql))
        .bind(anew)
        .bind(row.to_owned())
        .bind(stored.to_owned())
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
    Ok(done.rows_affected())
}
