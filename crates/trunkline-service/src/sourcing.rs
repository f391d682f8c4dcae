//! Event-sourced aggregates, as a service's handlers use them.

use trunkline_core::{Error, Result};
use trunkline_store::{Aggregate, Aggregates, Loaded, Projection, Projections};

use crate::service::Service;
use crate::{Cx, TxGuard};

/// So often is a change decided again because somebody else was first.
const CHANGE_ATTEMPTS_MAX: u32 = 8;

/// Adds a projection to those of a service, once it has a store.
pub(crate) type AddProjection = Box<dyn FnOnce(Projections) -> Projections + Send + Sync>;

impl Service {
    /// Keeps the tables of a projection. They are there, and whole, before anything reaches the service.
    #[must_use]
    pub fn projection(mut self, projection: impl Projection) -> Self {
        self.projections.push(Box::new(|all| all.with(projection)));
        self
    }
}

impl Cx {
    /// The instances of an aggregate, to read them as they are or as they were; it sees what is committed.
    pub fn aggregates<A: Aggregate>(&self) -> Aggregates<A> {
        self.runtime().store.aggregates()
    }

    /// Changes an instance when this work commits: `decide` sees its state and says what happens, or refuses. Should
    /// somebody else be first, it is asked again with the state as it is then, up to eight times. For a single attempt, or
    /// for a version that the caller of a request knows, there are `load`, `append` and `append_after` of [`Cx::tx`].
    ///
    /// # Errors
    /// What `decide` says; `Conflict` (`aggregate_changed`) when others were first each time; those of
    /// [`Tx::append`](trunkline_store::Tx::append).
    pub async fn change<A: Aggregate>(
        &self,
        id: &str,
        mut decide: impl FnMut(&Loaded<A>) -> Result<Vec<A::Event>> + Send,
    ) -> Result<Loaded<A>> {
        let mut attempts = 1;
        loop {
            let mut tx: TxGuard = self.tx().await?;
            let mut loaded = tx.load::<A>(id).await?;
            let events = decide(&loaded)?;
            match tx.append(&mut loaded, &events).await {
                Ok(()) => return Ok(loaded),
                Err(error) if is_changed(&error) && attempts < CHANGE_ATTEMPTS_MAX => attempts += 1,
                Err(error) => return Err(error.with("attempts", attempts)),
            }
        }
    }

    /// The projections of this service, to watch them and to build one anew.
    pub fn projections(&self) -> &Projections {
        &self.runtime().projections
    }
}

fn is_changed(error: &Error) -> bool {
    error.code() == "aggregate_changed"
}

/// Those of a service, with their tables.
pub(crate) async fn prepare(
    declared: Vec<AddProjection>,
    store: trunkline_store::Store,
) -> Result<Projections> {
    let none = Projections::new(store);
    let all = declared.into_iter().fold(none, |all, add| add(all));
    all.prepare().await?;
    Ok(all)
}
