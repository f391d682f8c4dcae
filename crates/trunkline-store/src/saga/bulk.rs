//! Statements over many rows at a time.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection};
use trunkline_core::Result;
use uuid::Uuid;

use crate::error::sql_error;

/// Rows in one statement. A statement is of the smallest size that takes all, and what is left of it is
/// filled with NULL, which its condition leaves out.
pub(super) const SIZES: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

/// A statement in each of the sizes.
#[derive(Debug)]
pub(super) struct Bulk {
    sqlite: [String; SIZES.len()],
    postgres: [String; SIZES.len()],
}

pub(super) type Binding = Query<'static, Any, AnyArguments>;

impl Bulk {
    /// `VALUES` with so many columns stands between `before` and `after`.
    pub(super) fn new(before: &str, columns: usize, after: &str) -> Self {
        let texts = |place: fn(usize) -> String| {
            SIZES.map(|rows| format!("{before}(VALUES {}) {after}", values(rows, columns, place)))
        };
        Self {
            // Without a number: SQLite takes a number for a name, and looks through all names for each value.
            sqlite: texts(|_| "?".to_owned()),
            postgres: texts(|at| format!("${at}")),
        }
    }

    /// Runs it over all of `items`; how many rows changed.
    pub(super) async fn run<T>(
        &'static self,
        conn: &mut AnyConnection,
        items: &[T],
        mut bind: impl FnMut(Binding, Option<&T>) -> Result<Binding>,
    ) -> Result<u64> {
        let texts = self.texts(conn);
        let mut rows = 0;
        for query in queries(texts, items, &mut bind) {
            let done = query?.execute(&mut *conn).await.map_err(sql_error)?;
            rows += done.rows_affected();
        }
        Ok(rows)
    }

    /// Runs it over all of `items`; the rows that it returned.
    pub(super) async fn fetch<T>(
        &'static self,
        conn: &mut AnyConnection,
        items: &[T],
        mut bind: impl FnMut(Binding, Option<&T>) -> Result<Binding>,
    ) -> Result<Vec<AnyRow>> {
        let texts = self.texts(conn);
        let mut rows = Vec::with_capacity(items.len());
        for query in queries(texts, items, &mut bind) {
            rows.extend(query?.fetch_all(&mut *conn).await.map_err(sql_error)?);
        }
        Ok(rows)
    }

    fn texts(&'static self, conn: &AnyConnection) -> &'static [String; SIZES.len()] {
        if conn.backend_name() == "SQLite" {
            &self.sqlite
        } else {
            &self.postgres
        }
    }
}

fn queries<'a, T>(
    texts: &'static [String; SIZES.len()],
    items: &'a [T],
    bind: &'a mut impl FnMut(Binding, Option<&T>) -> Result<Binding>,
) -> impl Iterator<Item = Result<Binding>> + 'a {
    let [.., largest] = SIZES;
    items.chunks(largest).map(move |chunk| {
        let mut fitting = SIZES.iter().zip(texts);
        let (size, text) = fitting
            .find(|(size, _)| **size >= chunk.len())
            .expect("a chunk is no larger than the largest size");
        let padding = size - chunk.len();
        let mut rows = chunk.iter().map(Some).chain((0..padding).map(|_| None));
        rows.try_fold(sqlx::query(text.as_str()), &mut *bind)
    })
}

fn values(rows: usize, columns: usize, place: fn(usize) -> String) -> String {
    let row = |n: usize| {
        let places = (1..=columns).map(|column| place(n * columns + column));
        format!("({})", places.collect::<Vec<_>>().join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// An id as it is stored.
pub(super) fn bytes(id: Uuid) -> Vec<u8> {
    id.as_bytes().to_vec()
}

/// The ids in the first column.
pub(super) fn ids(rows: &[AnyRow]) -> Result<Vec<Uuid>> {
    rows.iter().map(|row| super::rows::id(row, 0)).collect()
}
