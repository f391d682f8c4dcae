//! Short SQL statements whose errors are the toolkit's.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, Encode, FromRow, Type};
use trunkline::{Result, sql_error};

pub(crate) use sqlx::AnyConnection as Conn;

/// A statement that SQLite and PostgreSQL both understand, with `$1` for its first value.
pub(crate) struct Statement(Query<'static, Any, AnyArguments>);

/// Begins a statement.
pub(crate) fn sql(text: &'static str) -> Statement {
    Statement(sqlx::query(text))
}

impl Statement {
    /// Adds the next value.
    pub(crate) fn bind<T>(self, value: T) -> Self
    where
        T: for<'q> Encode<'q, Any> + Type<Any>,
    {
        Self(self.0.bind(value))
    }

    /// Runs it and says how many rows it changed.
    pub(crate) async fn run(self, conn: &mut Conn) -> Result<u64> {
        Ok(self.0.execute(conn).await.map_err(sql_error)?.rows_affected())
    }

    /// The only row.
    pub(crate) async fn one<T: Row>(self, conn: &mut Conn) -> Result<T> {
        let row = self.0.fetch_one(conn).await.map_err(sql_error)?;
        T::from_row(&row).map_err(sql_error)
    }

    /// The first row, if there is one.
    pub(crate) async fn first<T: Row>(self, conn: &mut Conn) -> Result<Option<T>> {
        let row = self.0.fetch_optional(conn).await.map_err(sql_error)?;
        row.map(|row| T::from_row(&row).map_err(sql_error)).transpose()
    }

    /// Every row.
    pub(crate) async fn all<T: Row>(self, conn: &mut Conn) -> Result<Vec<T>> {
        let rows = self.0.fetch_all(conn).await.map_err(sql_error)?;
        rows.iter().map(|row| T::from_row(row).map_err(sql_error)).collect()
    }
}

/// What a row can be read as: a tuple of its columns.
pub(crate) trait Row: for<'r> FromRow<'r, AnyRow> {}

impl<T: for<'r> FromRow<'r, AnyRow>> Row for T {}
