//! Short SQL statements: values of the toolkit's types in, tuples and the toolkit's errors out.

use std::fmt;

use jiff::Timestamp;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe, FromRow};
use trunkline_core::{ByteString, Money, Result};

use crate::error::sql_error;

/// A statement that SQLite and PostgreSQL both understand, with `$1` for its first value.
///
/// Statements with more to them are written with sqlx itself, on the same connection.
#[must_use = "a statement does nothing until it runs"]
pub struct Statement(Query<'static, Any, AnyArguments>);

/// Begins a statement.
///
/// ```
/// # async fn example(conn: &mut trunkline_store::Conn) -> trunkline_core::Result<()> {
/// use trunkline_store::sql;
///
/// sql("INSERT INTO carts (cart_id, pieces) VALUES ($1, $2)").bind("c-1").bind(2_u32).run(conn).await?;
/// let (pieces,) = sql("SELECT pieces FROM carts WHERE cart_id = $1").bind("c-1").one::<(i64,)>(conn).await?;
/// # let _ = pieces;
/// # Ok(())
/// # }
/// ```
pub fn sql(text: &'static str) -> Statement {
    Statement(sqlx::query(text))
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Statement")
    }
}

impl Statement {
    /// A statement whose text was put together of texts of the program.
    pub(crate) fn made(text: String) -> Self {
        Self(sqlx::query(AssertSqlSafe(text)))
    }

    /// Adds the next value.
    pub fn bind(self, value: impl Into<SqlValue>) -> Self {
        Self(match value.into() {
            SqlValue::Text(text) => self.0.bind(text),
            SqlValue::Number(number) => self.0.bind(number),
            SqlValue::Float(number) => self.0.bind(number),
        })
    }

    /// Runs it and says how many rows it changed.
    ///
    /// # Errors
    /// Those of [`sql_error`].
    pub async fn run(self, conn: &mut AnyConnection) -> Result<u64> {
        Ok(self
            .0
            .execute(conn)
            .await
            .map_err(sql_error)?
            .rows_affected())
    }

    /// The only row.
    ///
    /// # Errors
    /// `NotFound` when there is none; those of [`sql_error`].
    pub async fn one<T: SqlRow>(self, conn: &mut AnyConnection) -> Result<T> {
        let row = self.0.fetch_one(conn).await.map_err(sql_error)?;
        T::from_row(&row).map_err(sql_error)
    }

    /// The first row, if there is one.
    ///
    /// # Errors
    /// Those of [`sql_error`].
    pub async fn first<T: SqlRow>(self, conn: &mut AnyConnection) -> Result<Option<T>> {
        let row = self.0.fetch_optional(conn).await.map_err(sql_error)?;
        row.map(|row| T::from_row(&row).map_err(sql_error))
            .transpose()
    }

    /// Every row.
    ///
    /// # Errors
    /// Those of [`sql_error`].
    pub async fn all<T: SqlRow>(self, conn: &mut AnyConnection) -> Result<Vec<T>> {
        let rows = self.0.fetch_all(conn).await.map_err(sql_error)?;
        rows.iter()
            .map(|row| T::from_row(row).map_err(sql_error))
            .collect()
    }
}

/// What a row can be read as: a tuple of its columns.
pub trait SqlRow: for<'r> FromRow<'r, AnyRow> {}

impl<T: for<'r> FromRow<'r, AnyRow>> SqlRow for T {}

/// A value as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub enum SqlValue {
    /// `TEXT`, or null.
    Text(Option<String>),
    /// `BIGINT`.
    Number(i64),
    /// `DOUBLE PRECISION`.
    Float(f64),
}

impl From<&str> for SqlValue {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<&String> for SqlValue {
    fn from(text: &String) -> Self {
        Self::Text(Some(text.clone()))
    }
}

impl From<String> for SqlValue {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<&ByteString> for SqlValue {
    fn from(text: &ByteString) -> Self {
        Self::Text(Some(text.to_string()))
    }
}

impl From<Option<&str>> for SqlValue {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

impl From<&Option<String>> for SqlValue {
    fn from(text: &Option<String>) -> Self {
        Self::Text(text.clone())
    }
}

/// RFC 3339.
impl From<Timestamp> for SqlValue {
    fn from(time: Timestamp) -> Self {
        Self::Text(Some(time.to_string()))
    }
}

impl From<i64> for SqlValue {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for SqlValue {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

/// Counts never come near the end of an `i64`.
impl From<u64> for SqlValue {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// 0 or 1.
impl From<bool> for SqlValue {
    fn from(yes: bool) -> Self {
        Self::Number(yes.into())
    }
}

/// Minor units.
impl From<Money> for SqlValue {
    fn from(money: Money) -> Self {
        Self::Number(money.minor())
    }
}

impl From<f64> for SqlValue {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}
