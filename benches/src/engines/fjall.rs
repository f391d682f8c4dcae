//! fjall, one batch per group.

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Outcome, Setup, embedded};

/// Runs it, synced per batch or not at all.
pub fn run(setup: &Setup) -> Outcome {
    let database = Database::builder(&setup.dir).open()?;
    let events = database.keyspace("events", KeyspaceCreateOptions::default)?;
    let positions = database.keyspace("positions", KeyspaceCreateOptions::default)?;
    let mode = if setup.synced {
        PersistMode::SyncData
    } else {
        PersistMode::Buffer
    };
    let writer = Writer {
        database,
        events: events.clone(),
        positions,
        mode,
    };
    embedded::run(setup, writer, Reader(events))
}

struct Writer {
    database: Database,
    events: Keyspace,
    positions: Keyspace,
    mode: PersistMode,
}

impl embedded::Write for Writer {
    fn commit(&mut self, first: u64, events: &[Vec<u8>], position: Option<u64>) {
        let mut batch = self.database.batch().durability(Some(self.mode));
        for (at, body) in (first..).zip(events) {
            batch.insert(&self.events, at.to_be_bytes().as_slice(), body.as_slice());
        }
        if let Some(position) = position {
            batch.insert(
                &self.positions,
                b"g".as_slice(),
                position.to_be_bytes().as_slice(),
            );
        }
        batch.commit().expect("it commits");
    }
}

struct Reader(Keyspace);

impl embedded::Read for Reader {
    fn read(&mut self, from: u64, to: u64, visit: &mut dyn FnMut(&[u8])) {
        for entry in self.0.range(from.to_be_bytes()..to.to_be_bytes()) {
            visit(&entry.value().expect("it reads"));
        }
    }
}
