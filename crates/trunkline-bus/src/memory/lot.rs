//! Dead letters in memory: for tests, and for services without a store.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use bytestring::ByteString;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use trunkline_core::{Error, ErrorKind, Result};

use crate::{Change, ChangeTeller, Changes, DeadLetter, DeadLetterQuery, ParkingLot, Reservation};

/// A parking lot that does not outlive its process.
///
/// # Guarantees
/// Those of [`ParkingLot`] but durability. It holds at most its bound of letters; beyond it, parking
/// is refused as `Overloaded`, so that the events stay with the transport.
#[derive(Debug)]
pub struct MemoryLot {
    letters_max: usize,
    kept: Mutex<Kept>,
    changes: ChangeTeller,
    reserved: Arc<Mutex<HashSet<ByteString>>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// By id, which is the order of parking.
    letters: BTreeMap<ByteString, DeadLetter>,
    /// Group and event id of each.
    known: HashSet<(ByteString, ByteString)>,
    /// How many letters each group and key has.
    keys: BTreeMap<(ByteString, ByteString), usize>,
}

impl Default for MemoryLot {
    fn default() -> Self {
        Self::new(100_000)
    }
}

impl MemoryLot {
    /// An empty lot for at most `letters_max` letters.
    pub fn new(letters_max: usize) -> Self {
        Self {
            letters_max,
            kept: Mutex::default(),
            changes: ChangeTeller::default(),
            reserved: Arc::default(),
        }
    }

    fn park_now(&self, new: &[DeadLetter]) -> Result<Vec<ByteString>> {
        let mut kept = self.kept.lock();
        let mut free: Vec<ByteString> = Vec::new();
        for letter in new {
            let name = (letter.group.clone(), letter.envelope.id.clone());
            if kept.known.contains(&name) {
                continue;
            }
            if letter.error.is_none() {
                if free.contains(&letter.key) {
                    continue;
                }
                if !kept.has(&letter.group, &letter.key) {
                    free.push(letter.key.clone());
                    continue;
                }
            }
            if kept.letters.len() >= self.letters_max {
                return Err(Error::new(
                    ErrorKind::Overloaded,
                    "parking_lot_full",
                    "the parking lot in memory holds as many letters as it may",
                ));
            }
            kept.known.insert(name);
            *kept.keys.entry(place(letter)).or_default() += 1;
            kept.letters.insert(letter.id.clone(), letter.clone());
            if letter.error.is_some() {
                let (group, key) = place(letter);
                self.changes.tell(Change::Parked { group, key });
            }
        }
        Ok(free)
    }

    fn list_now(&self, query: &DeadLetterQuery) -> Vec<DeadLetter> {
        let kept = self.kept.lock();
        let limit = if query.limit == 0 {
            100
        } else {
            query.limit.min(1_000)
        };
        let from = query
            .after
            .clone()
            .map_or(Bound::Unbounded, Bound::Excluded);
        let matching = kept
            .letters
            .range((from, Bound::Unbounded))
            .map(|(_, letter)| letter);
        matching
            .filter(|letter| matches(letter, query))
            .take(limit)
            .cloned()
            .collect()
    }

    fn update_now(&self, letter: &DeadLetter) -> Result<()> {
        let mut kept = self.kept.lock();
        let slot = kept.letters.get_mut(&letter.id);
        let slot = slot.ok_or_else(|| gone(&letter.id))?;
        let recoveries = slot.recoveries;
        *slot = letter.clone();
        slot.recoveries = recoveries;
        if letter.error.is_some() {
            let (group, key) = place(letter);
            self.changes.tell(Change::Parked { group, key });
        }
        Ok(())
    }

    fn remove_now(&self, id: &str) -> Result<()> {
        let mut kept = self.kept.lock();
        let letter = kept.letters.remove(id).ok_or_else(|| gone(id))?;
        let place = place(&letter);
        kept.known.remove(&(letter.group, letter.envelope.id));
        if let Some(count) = kept.keys.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                kept.keys.remove(&place);
                let (group, key) = place;
                self.changes.tell(Change::Freed { group, key });
            }
        }
        Ok(())
    }
}

impl Kept {
    fn has(&self, group: &ByteString, key: &ByteString) -> bool {
        self.keys.contains_key(&(group.clone(), key.clone()))
    }
}

/// Group and key.
fn place(letter: &DeadLetter) -> (ByteString, ByteString) {
    (letter.group.clone(), letter.key.clone())
}

/// A group in the set of those that are reserved, until it is dropped.
#[derive(Debug)]
struct Reserved {
    group: ByteString,
    all: Arc<Mutex<HashSet<ByteString>>>,
}

impl Reservation for Reserved {
    fn check(&mut self) -> BoxFuture<'_, Result<()>> {
        std::future::ready(Ok(())).boxed()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.all.lock().remove(&self.group);
    }
}

fn matches(letter: &DeadLetter, query: &DeadLetterQuery) -> bool {
    let fits = |wanted: &Option<ByteString>, has: &ByteString| {
        wanted.as_ref().is_none_or(|wanted| wanted == has)
    };
    fits(&query.group, &letter.group)
        && fits(&query.key, &letter.key)
        && fits(&query.event_type, &letter.envelope.event_type)
        && fits(&query.id, &letter.id)
}

fn gone(id: &str) -> Error {
    Error::not_found("dead_letter_gone", "there is no such dead letter").with("id", id)
}

impl ParkingLot for MemoryLot {
    fn park<'a>(&'a self, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<Vec<ByteString>>> {
        std::future::ready(self.park_now(letters)).boxed()
    }

    fn parked_keys<'a>(
        &'a self,
        group: &'a str,
        among: Option<&'a [ByteString]>,
    ) -> BoxFuture<'a, Result<Vec<ByteString>>> {
        let kept = self.kept.lock();
        let group = ByteString::from(group);
        let keys = match among {
            Some(keys) => {
                let parked = keys.iter().filter(|key| kept.has(&group, key));
                parked.cloned().collect()
            }
            None => {
                let from = (group.clone(), ByteString::new());
                let all = kept.keys.range(from..).map(|(place, _)| place);
                let of_group = all.take_while(|(other, _)| *other == group);
                of_group.map(|(_, key)| key.clone()).collect()
            }
        };
        std::future::ready(Ok(keys)).boxed()
    }

    fn list<'a>(&'a self, query: &'a DeadLetterQuery) -> BoxFuture<'a, Result<Vec<DeadLetter>>> {
        std::future::ready(Ok(self.list_now(query))).boxed()
    }

    fn update<'a>(&'a self, letter: &'a DeadLetter) -> BoxFuture<'a, Result<()>> {
        std::future::ready(self.update_now(letter)).boxed()
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        std::future::ready(self.remove_now(id)).boxed()
    }

    fn changes(&self) -> Changes {
        self.changes.listen(false)
    }

    fn reserve<'a>(
        &'a self,
        group: &'a str,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Reservation>>>> {
        let group = ByteString::from(group);
        let is_new = self.reserved.lock().insert(group.clone());
        let all = Arc::clone(&self.reserved);
        let reserved = is_new.then(|| Box::new(Reserved { group, all }) as Box<dyn Reservation>);
        std::future::ready(Ok(reserved)).boxed()
    }
}
