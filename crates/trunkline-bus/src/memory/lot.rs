//! Dead letters in memory: for tests, and for services without a store.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use bytestring::ByteString;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use trunkline_core::{Error, ErrorKind, Result};

use crate::{DeadLetter, DeadLetterQuery, ParkingLot};

/// A parking lot that does not outlive its process.
///
/// # Guarantees
/// Those of [`ParkingLot`] but durability. It holds at most its bound of letters; beyond it, parking
/// is refused as `Overloaded`, so that the events stay with the transport.
#[derive(Debug)]
pub struct MemoryLot {
    letters_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// By id, which is the order of parking.
    letters: BTreeMap<ByteString, DeadLetter>,
    /// Group and event id of each.
    known: HashSet<(ByteString, ByteString)>,
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
        }
    }

    fn park_now(&self, new: &[DeadLetter]) -> Result<()> {
        let mut kept = self.kept.lock();
        for letter in new {
            let name = (letter.group.clone(), letter.envelope.id.clone());
            if kept.known.contains(&name) {
                continue;
            }
            if kept.letters.len() >= self.letters_max {
                return Err(Error::new(
                    ErrorKind::Overloaded,
                    "parking_lot_full",
                    "the parking lot in memory holds as many letters as it may",
                ));
            }
            kept.known.insert(name);
            kept.letters.insert(letter.id.clone(), letter.clone());
        }
        Ok(())
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

    fn remove_now(&self, id: &str) -> Result<()> {
        let mut kept = self.kept.lock();
        let letter = kept.letters.remove(id).ok_or_else(|| gone(id))?;
        kept.known.remove(&(letter.group, letter.envelope.id));
        Ok(())
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
    fn park<'a>(&'a self, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<()>> {
        std::future::ready(self.park_now(letters)).boxed()
    }

    fn parked_keys<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<Vec<ByteString>>> {
        let kept = self.kept.lock();
        let of_group = kept
            .letters
            .values()
            .filter(|letter| letter.group == *group);
        let mut keys: Vec<ByteString> = of_group.map(|letter| letter.key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        std::future::ready(Ok(keys)).boxed()
    }

    fn list<'a>(&'a self, query: &'a DeadLetterQuery) -> BoxFuture<'a, Result<Vec<DeadLetter>>> {
        std::future::ready(Ok(self.list_now(query))).boxed()
    }

    fn update<'a>(&'a self, letter: &'a DeadLetter) -> BoxFuture<'a, Result<()>> {
        let mut kept = self.kept.lock();
        let slot = kept.letters.get_mut(&letter.id);
        let result = slot
            .map(|slot| *slot = letter.clone())
            .ok_or_else(|| gone(&letter.id));
        std::future::ready(result).boxed()
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        std::future::ready(self.remove_now(id)).boxed()
    }
}
