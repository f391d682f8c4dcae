//! SQLite in WAL mode, one transaction per group.

use rusqlite::{Connection, params};

use super::{Outcome, Setup, embedded};

/// Runs it with `synchronous` FULL or NORMAL.
pub fn run(setup: &Setup) -> Outcome {
    let writer = open(setup)?;
    writer.execute_batch(
        "CREATE TABLE event(at INTEGER PRIMARY KEY, body BLOB NOT NULL);
         CREATE TABLE position(name TEXT PRIMARY KEY, at INTEGER NOT NULL);",
    )?;
    let reader = open(setup)?;
    embedded::run(setup, Writer(writer), Reader(reader))
}

fn open(setup: &Setup) -> rusqlite::Result<Connection> {
    let connection = Connection::open(setup.dir.join("events.db"))?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(
        None,
        "synchronous",
        if setup.synced { "FULL" } else { "NORMAL" },
    )?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    Ok(connection)
}

struct Writer(Connection);

fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("a number")
}

impl Writer {
    fn try_commit(
        &mut self,
        first: u64,
        events: &[Vec<u8>],
        position: Option<u64>,
    ) -> rusqlite::Result<()> {
        let transaction = self.0.transaction()?;
        {
            let mut insert =
                transaction.prepare_cached("INSERT INTO event(at, body) VALUES(?1, ?2)")?;
            for (at, body) in (first..).zip(events) {
                insert.execute(params![signed(at), body])?;
            }
            if let Some(position) = position {
                let sql = "INSERT INTO position(name, at) VALUES('g', ?1)
                           ON CONFLICT(name) DO UPDATE SET at = ?1";
                transaction
                    .prepare_cached(sql)?
                    .execute(params![signed(position)])?;
            }
        }
        transaction.commit()
    }
}

impl embedded::Write for Writer {
    fn commit(&mut self, first: u64, events: &[Vec<u8>], position: Option<u64>) {
        self.try_commit(first, events, position)
            .expect("it commits");
    }
}

struct Reader(Connection);

impl Reader {
    fn try_read(
        &mut self,
        from: u64,
        to: u64,
        visit: &mut dyn FnMut(&[u8]),
    ) -> rusqlite::Result<()> {
        let sql = "SELECT body FROM event WHERE at >= ?1 AND at < ?2 ORDER BY at";
        let mut select = self.0.prepare_cached(sql)?;
        let mut rows = select.query(params![signed(from), signed(to)])?;
        while let Some(row) = rows.next()? {
            visit(row.get_ref(0)?.as_blob().expect("a blob"));
        }
        Ok(())
    }
}

impl embedded::Read for Reader {
    fn read(&mut self, from: u64, to: u64, visit: &mut dyn FnMut(&[u8])) {
        self.try_read(from, to, visit).expect("it reads");
    }
}
