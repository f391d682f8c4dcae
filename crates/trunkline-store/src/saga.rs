//! The journal of durable sagas.
//!
//! A batch is written with one statement for all its starts, one for all that changes rows, one for all
//! entries, whatever it holds; each statement has a few fixed sizes, so that it stays prepared. The counts
//! of rows say whether everything found its place. Only where an entry's place was taken is the batch
//! rolled back and written again, one by one, a savepoint each.

use std::future::ready;

use futures::FutureExt;
use futures::future::BoxFuture;
use trunkline_core::{Error, ErrorKind, Result};
use trunkline_saga::{
    Claim, Claimed, Durable, Instance, Journal, Query, Record, State, Which, Write, Written,
};

use crate::{Alert, Engine, Store, Tx};

mod bulk;
mod claim;
mod hand;
mod lock;
mod read;
mod round;
mod rows;
mod standing;
mod tell;

/// How many writes one batch may hold; more is `TooLarge`.
const WRITES_MAX: usize = 4_096;

/// How often a batch is written again after the database took it back because another transaction stood
/// in its way.
const CONFLICTS_MAX: usize = 5;

/// The journal of durable sagas in a store.
///
/// # Guarantees
/// As [`Journal`] says. `changed_at` moves with the state and the status, and not with each entry. Texts may hold any
/// character; times are kept to the microsecond, those in entries as they are.
#[derive(Debug, Clone)]
pub struct Sagas {
    store: Store,
}

impl Store {
    /// The journal of this service's sagas.
    pub fn sagas(&self) -> Sagas {
        Sagas {
            store: self.clone(),
        }
    }
}

impl Tx {
    /// Does one [`Write::Start`], [`Write::Went`] or [`Write::Tell`] within this transaction.
    ///
    /// # Guarantees
    /// It takes effect together with everything else in the transaction, or not at all. `Done` becomes durable with the
    /// commit. After `Lost` the transaction is to be rolled back: part of the write may be in it. After any other answer
    /// it goes on as if nothing had been asked, on PostgreSQL too: no statement has failed.
    ///
    /// # Errors
    /// `InvalidInput` for another sort of write. As any statement.
    pub async fn saga(&mut self, write: &Write) -> Result<Written> {
        if matches!(write, Write::Mend(_) | Write::Prune(..)) {
            return Err(Error::invalid(
                "saga_write_unfit",
                "expected a start, what an instance did, or a message",
            ));
        }
        let now = self.store().now_micros();
        let answers = round::apply(self.conn(), std::slice::from_ref(write), now).await?;
        Ok(first(answers))
    }
}

impl Sagas {
    async fn write_batch(&self, batch: &[Write]) -> Result<(Vec<Written>, Durable)> {
        if batch.len() > WRITES_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "saga_batch_too_large",
                "a batch has too many writes",
            )
            .with("writes", batch.len())
            .with("writes_max", WRITES_MAX));
        }
        if batch.is_empty() {
            return Ok((Vec::new(), durable()));
        }
        let mut conflicts = 0;
        loop {
            let written = match self.together(batch).await {
                Ok(Some(written)) => Ok(written),
                Ok(None) => self.one_by_one(batch).await,
                Err(error) => Err(error),
            };
            match written {
                Err(error) if is_conflict(&error) && conflicts < CONFLICTS_MAX => conflicts += 1,
                Ok((written, _)) if written.iter().any(|written| *written != Written::Done) => {
                    // What refused it may be another process's, and not on disk yet.
                    return Ok((written, self.store.on_disk()));
                }
                written => return written,
            }
        }
    }

    /// Everything at a time; nothing when an entry's place was taken.
    async fn together(&self, batch: &[Write]) -> Result<Option<(Vec<Written>, Durable)>> {
        let mut tx = self.begin(batch).await?;
        let now = self.store.now_micros();
        let mut written = Vec::with_capacity(batch.len());
        for round in round::split(batch) {
            match round::apply(tx.conn(), round, now).await? {
                Some(answers) => {
                    tell_parked(&mut tx, round, &answers).await?;
                    written.extend(answers);
                }
                None => {
                    tx.rollback().await?;
                    return Ok(None);
                }
            }
        }
        let durable = tx.commit_ahead().await?;
        Ok(Some((written, durable)))
    }

    async fn begin(&self, batch: &[Write]) -> Result<Tx> {
        if round::is_one_statement(batch) {
            return self.store.begin_single().await;
        }
        let mut tx = self.store.begin().await?;
        if self.store.engine() == Engine::Postgres {
            lock::all(tx.conn(), batch).await?;
        }
        Ok(tx)
    }

    async fn one_by_one(&self, batch: &[Write]) -> Result<(Vec<Written>, Durable)> {
        if let [_] = batch {
            return Ok((vec![Written::Lost], durable()));
        }
        let mut tx = self.begin(batch).await?;
        let now = self.store.now_micros();
        let mut written = Vec::with_capacity(batch.len());
        for write in batch {
            tx.savepoint(0).await?;
            let answer = first(round::apply(tx.conn(), std::slice::from_ref(write), now).await?);
            if answer == Written::Lost {
                tx.rollback_to(0).await?;
            } else {
                let (write, answer) = (std::slice::from_ref(write), std::slice::from_ref(&answer));
                tell_parked(&mut tx, write, answer).await?;
            }
            tx.release(0).await?;
            written.push(answer);
        }
        let durable = tx.commit_ahead().await?;
        Ok((written, durable))
    }
}

impl Journal for Sagas {
    fn write<'a>(&'a self, batch: &'a [Write]) -> BoxFuture<'a, Result<Vec<Written>>> {
        async {
            let (written, durable) = self.write_batch(batch).await?;
            durable.await.map(|()| written)
        }
        .boxed()
    }

    fn write_ahead<'a>(
        &'a self,
        batch: &'a [Write],
    ) -> BoxFuture<'a, Result<(Vec<Written>, Durable)>> {
        self.write_batch(batch).boxed()
    }

    fn check(&self) -> Result<()> {
        self.store.confirms()
    }

    fn load<'a>(&'a self, which: &'a Which) -> BoxFuture<'a, Result<Option<Record>>> {
        read::load(&self.store, which).boxed()
    }

    fn claim<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Claimed>> {
        async move {
            let mut conflicts = 0;
            loop {
                match claim::claim(&self.store, claim).await {
                    Err(error) if is_conflict(&error) && conflicts < CONFLICTS_MAX => {
                        conflicts += 1;
                    }
                    claimed => return claimed,
                }
            }
        }
        .boxed()
    }

    fn list<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Vec<Instance>>> {
        read::list(&self.store, query).boxed()
    }
}

pub(crate) use claim::free_all;
pub use standing::Standing;

/// Tells of the instances that were just parked.
async fn tell_parked(tx: &mut Tx, writes: &[Write], answers: &[Written]) -> Result<()> {
    for (write, answer) in writes.iter().zip(answers) {
        if let Write::Went(went) = write
            && let Some(change) = &went.change
            && change.state == State::Parked
            && *answer == Written::Done
            && let Some(instance) = read::instance(tx.conn(), went.id).await?
        {
            tx.alert(|store| Alert::saga_parked(store.service(), &instance))
                .await?;
        }
    }
    Ok(())
}

/// Two transactions waited for each other, and the database chose this one.
fn is_conflict(error: &Error) -> bool {
    error.code() == "store_conflict"
}

/// Nothing is to become durable.
fn durable() -> Durable {
    ready(Ok(())).boxed()
}

/// The answer to a round of one: none says that a place was taken.
fn first(answers: Option<Vec<Written>>) -> Written {
    answers
        .and_then(|answers| answers.into_iter().next())
        .unwrap_or(Written::Lost)
}
