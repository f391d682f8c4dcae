//! Projections: tables that are made of events.

use std::fmt;

use futures::future::BoxFuture;
use sqlx::AnyConnection;
use trunkline_core::{Error, Result};

use super::codec::Stored;
use super::{Aggregate, Recorded, checked_name};
use crate::Statement;

/// What the events of all instances of an aggregate make of some tables of the service.
///
/// # Guarantees
/// Each event is applied once in effect, in one order that is the same whenever the tables are made anew: within an
/// instance that of the versions, and an event that was committed before another was begun comes before it.
/// Handlers read the tables by their names, and never see some of a rebuild: they are views, which are turned to the new
/// tables when those are as far as the old. Only `apply` writes to them.
pub trait Projection: Send + Sync + 'static {
    /// Whose events.
    type Aggregate: Aggregate;

    /// Its name: lower-case letters, digits and `_`, at most 40.
    const NAME: &'static str;

    /// Raised with every change of its code or tables: they are then built anew beside the old.
    const VERSION: u32 = 1;

    /// The names of its tables, as handlers read them; at most 40 characters each.
    const TABLES: &'static [&'static str];

    /// Makes them: `CREATE TABLE {games} (…); CREATE INDEX {games}_by_player ON {games} (player)`, with each table's
    /// name in braces, as for a [`Migration`](crate::Migration).
    const CREATE: &'static str;

    /// What an event changes. It reads nothing but the event and its own tables.
    fn apply(
        &self,
        event: &Recorded<<Self::Aggregate as Aggregate>::Event>,
        target: &mut Target<'_>,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// The tables that a projection writes to, in its transaction.
pub struct Target<'a> {
    conn: &'a mut AnyConnection,
    tables: &'static [&'static str],
    generation: i64,
}

impl<'a> Target<'a> {
    pub(super) fn new(
        conn: &'a mut AnyConnection,
        tables: &'static [&'static str],
        generation: i64,
    ) -> Self {
        Self {
            conn,
            tables,
            generation,
        }
    }

    /// Begins a statement, with each table's name in braces: `INSERT INTO {games} (game_id) VALUES ($1)`.
    pub fn sql(&self, text: &'static str) -> Statement {
        Statement::made(named(text, self.tables, self.generation))
    }

    /// The connection, to run it on.
    pub fn conn(&mut self) -> &mut AnyConnection {
        self.conn
    }
}

impl fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("tables", &self.tables)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// The text with the tables of a generation in it.
pub(super) fn named(text: &str, tables: &[&str], generation: i64) -> String {
    tables.iter().fold(text.to_owned(), |text, table| {
        text.replace(&format!("{{{table}}}"), &table_of(table, generation))
    })
}

/// What a table of a generation is called in the database.
pub(super) fn table_of(table: &str, generation: i64) -> String {
    format!("{table}__{generation}")
}

/// What a projection says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Declared {
    pub(super) name: &'static str,
    pub(super) version: i64,
    pub(super) kind: &'static str,
    pub(super) tables: &'static [&'static str],
    pub(super) create: &'static str,
}

impl Declared {
    pub(super) fn check(&self) -> Result<()> {
        checked_name(self.name)?;
        checked_name(self.kind)?;
        for table in self.tables {
            checked_name(table)?;
            if !self.create.contains(&format!("{{{table}}}")) {
                let text = "a projection does not make one of its tables: write its name in braces";
                return Err(Error::invalid("projection_invalid", text)
                    .with("projection", self.name)
                    .with("table", table));
            }
        }
        Ok(())
    }
}

/// A projection of any aggregate.
pub(super) trait Projected: Send + Sync {
    fn declared(&self) -> Declared;

    fn apply<'a>(
        &'a self,
        events: Vec<Stored>,
        target: &'a mut Target<'_>,
    ) -> BoxFuture<'a, Result<()>>;
}

impl<P: Projection> Projected for P {
    fn declared(&self) -> Declared {
        Declared {
            name: P::NAME,
            version: i64::from(P::VERSION),
            kind: P::Aggregate::KIND,
            tables: P::TABLES,
            create: P::CREATE,
        }
    }

    fn apply<'a>(
        &'a self,
        events: Vec<Stored>,
        target: &'a mut Target<'_>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for stored in events {
                let recorded = stored.clone().decode::<P::Aggregate>()?;
                let applied = Projection::apply(self, &recorded, target).await;
                applied.map_err(|error| stored.locate(error, P::Aggregate::KIND))?;
            }
            Ok(())
        })
    }
}
