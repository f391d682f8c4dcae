//! Database errors as the toolkit's own.

use trunkline_core::{Error, ErrorKind, Retry};

/// Turns an error of sqlx into the toolkit's, with its kind and whether a retry is safe.
///
/// It is meant for `map_err` on statements that run inside a [`crate::Tx`]: what failed there had no
/// effect, so lost connections, deadlocks and full disks are `Transient`.
pub fn sql_error(error: sqlx::Error) -> Error {
    use sqlx::Error as E;
    let made = match &error {
        E::Database(database) => {
            let code = database.code().unwrap_or_default();
            // SQLSTATE has five characters; SQLite gives its extended result code as a number.
            if code.len() == 5 {
                postgres(&code)
            } else {
                sqlite(code.parse().unwrap_or(1))
            }
            .with("database", database.message())
        }
        E::Io(_) | E::Tls(_) | E::WorkerCrashed | E::PoolClosed | E::BeginFailed => {
            Error::unavailable("store_unavailable", "the store's server can't be reached")
        }
        E::PoolTimedOut => busy(),
        E::RowNotFound => Error::not_found("row_not_found", "no such row"),
        E::Configuration(_) => Error::invalid("store_url_invalid", "the store's URL is wrong"),
        _ => defect(),
    };
    made.with_source(error)
}

/// Whether an error says that a store is away, full or can't be written: nobody's work there can be done, whatever it
/// is, and it makes sense again when the store is back.
pub fn is_away(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable && error.code().starts_with("store_")
}

/// Every connection is in use, for longer than a caller should wait.
pub(crate) fn busy() -> Error {
    Error::new(
        ErrorKind::Overloaded,
        "store_busy",
        "no connection to the store became free in time",
    )
}

/// What is stored can't be read as what was written.
pub(crate) fn corrupt(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "store_corrupt", what)
}

fn defect() -> Error {
    Error::internal("the store refused a statement").with_retry(Retry::Permanent)
}

fn disk_full() -> Error {
    Error::unavailable("store_disk_full", "the disk of the store is full")
}

fn postgres(code: &str) -> Error {
    match (code.get(..2).unwrap_or_default(), code) {
        (_, "23505") => Error::conflict("row_exists", "a row with this key exists"),
        (_, "23503") => {
            Error::conflict("row_referenced", "another row refers to it, or it to none")
        }
        ("23", _) => constraint(),
        (_, "40001" | "40P01") => conflicted(),
        (_, "53100") => disk_full(),
        (_, "22021") => Error::invalid(
            "text_invalid",
            "a text has a character that the store can't keep",
        ),
        (_, "53300") => Error::new(
            ErrorKind::Overloaded,
            "store_busy",
            "the database server has no connections left",
        ),
        (_, "57014") => Error::new(
            ErrorKind::DeadlineExceeded,
            "store_timeout",
            "the statement was cancelled because it took too long",
        )
        .with_retry(Retry::Transient),
        (_, "55P03") => busy(),
        ("08" | "53" | "57" | "58", _) => {
            Error::unavailable("store_unavailable", "the database server is not available")
        }
        ("28", _) | (_, "42501") => Error::new(
            ErrorKind::PermissionDenied,
            "store_denied",
            "the database server refused the user",
        ),
        (_, "3D000") => Error::invalid(
            "store_missing",
            "the database that the store's URL names does not exist",
        ),
        ("XX", _) => corrupt("the database server reports damaged data"),
        _ => defect(),
    }
}

fn sqlite(extended: i32) -> Error {
    match (extended & 0xff, extended) {
        (_, 2067 | 1555 | 2579) => Error::conflict("row_exists", "a row with this key exists"),
        (_, 787) => Error::conflict("row_referenced", "another row refers to it, or it to none"),
        (19, _) => constraint(),
        (5 | 6, _) => busy(),
        (13, _) => disk_full(),
        (8 | 14, _) => Error::unavailable(
            "store_not_writable",
            "the file of the store can't be opened or written",
        ),
        (10, _) => Error::unavailable("store_io", "the disk of the store reports an error"),
        (9, _) => conflicted(),
        (11, _) => corrupt("the file of the store is damaged"),
        (26, _) => corrupt("the file of the store is not an SQLite database"),
        _ => defect(),
    }
}

fn constraint() -> Error {
    Error::invalid("row_invalid", "a row breaks a rule of its table")
}

/// Another transaction was in the way: this one makes sense again.
pub(crate) fn conflicted() -> Error {
    Error::conflict("store_conflict", "two transactions got in each other's way")
        .with_retry(Retry::Transient)
}
