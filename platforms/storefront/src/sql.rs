//! Short SQL statements whose values are the store's and whose errors are the toolkit's.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, FromRow};
use trunkline::{ByteString, Result, Timestamp, sql_error};

use crate::Money;

pub(crate) use sqlx::AnyConnection as Conn;

/// A statement that SQLite and PostgreSQL both understand, with `$1` for its first value.
pub(crate) struct Statement(Query<'static, Any, AnyArguments>);

/// Begins a statement.
pub(crate) fn sql(text: &'static str) -> Statement {
    Statement(sqlx::query(text))
}

impl Statement {
    /// Adds the next value.
    pub(crate) fn bind(self, value: impl Into<Value>) -> Self {
        Self(match value.into() {
            Value::Text(text) => self.0.bind(text),
            Value::Number(number) => self.0.bind(number),
        })
    }

    /// Runs it and says how many rows it changed.
    pub(crate) async fn run(self, conn: &mut Conn) -> Result<u64> {
        Ok(self
            .0
            .execute(conn)
            .await
            .map_err(sql_error)?
            .rows_affected())
    }

    /// The only row.
    pub(crate) async fn one<T: Row>(self, conn: &mut Conn) -> Result<T> {
        let row = self.0.fetch_one(conn).await.map_err(sql_error)?;
        T::from_row(&row).map_err(sql_error)
    }

    /// The first row, if there is one.
    pub(crate) async fn first<T: Row>(self, conn: &mut Conn) -> Result<Option<T>> {
        let row = self.0.fetch_optional(conn).await.map_err(sql_error)?;
        row.map(|row| T::from_row(&row).map_err(sql_error))
            .transpose()
    }

    /// Every row.
    pub(crate) async fn all<T: Row>(self, conn: &mut Conn) -> Result<Vec<T>> {
        let rows = self.0.fetch_all(conn).await.map_err(sql_error)?;
        rows.iter()
            .map(|row| T::from_row(row).map_err(sql_error))
            .collect()
    }
}

/// What a row can be read as: a tuple of its columns.
pub(crate) trait Row: for<'r> FromRow<'r, AnyRow> {}

impl<T: for<'r> FromRow<'r, AnyRow>> Row for T {}

/// A value as it is stored: `TEXT` or `BIGINT`, or null.
pub(crate) enum Value {
    Text(Option<String>),
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(Some(text.clone()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<&ByteString> for Value {
    fn from(text: &ByteString) -> Self {
        Self::Text(Some(text.to_string()))
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

impl From<&Option<String>> for Value {
    fn from(text: &Option<String>) -> Self {
        Self::Text(text.clone())
    }
}

/// RFC 3339.
impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        Self::Text(Some(time.to_string()))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

/// Counts never come near the end of an `i64`.
impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// 0 or 1.
impl From<bool> for Value {
    fn from(yes: bool) -> Self {
        Self::Number(yes.into())
    }
}

/// Minor units.
impl From<Money> for Value {
    fn from(money: Money) -> Self {
        Self::Number(money.minor())
    }
}
