//! Dead letters in SQL.

use bytestring::ByteString;
use futures::future::BoxFuture;
use trunkline_bus::{DeadLetter, DeadLetterQuery, ParkingLot};
use trunkline_core::Result;

use crate::Store;
use crate::error::unfinished;

/// Dead letters in the service's own store.
#[derive(Debug)]
pub(crate) struct SqlParkingLot {
    #[expect(dead_code, reason = "the insides are not written yet")]
    store: Store,
}

impl SqlParkingLot {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }
}

impl ParkingLot for SqlParkingLot {
    fn park<'a>(&'a self, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<()>> {
        let _ = letters;
        Box::pin(async { Err(unfinished()) })
    }

    fn parked_keys<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<Vec<ByteString>>> {
        let _ = group;
        Box::pin(async { Err(unfinished()) })
    }

    fn list<'a>(&'a self, query: &'a DeadLetterQuery) -> BoxFuture<'a, Result<Vec<DeadLetter>>> {
        let _ = query;
        Box::pin(async { Err(unfinished()) })
    }

    fn update<'a>(&'a self, letter: &'a DeadLetter) -> BoxFuture<'a, Result<()>> {
        let _ = letter;
        Box::pin(async { Err(unfinished()) })
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        let _ = id;
        Box::pin(async { Err(unfinished()) })
    }
}
