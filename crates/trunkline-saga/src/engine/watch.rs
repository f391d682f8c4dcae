//! Waiting for the end of instances.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;
use trunkline_core::Result;
use uuid::Uuid;

use super::{Engine, Parts, not_found};
use crate::host::Host;
use crate::journal::{Instance, Query, State, Which};

/// Who waits for the end of which instance.
#[derive(Default)]
pub(super) struct Watchers(Mutex<HashMap<Uuid, Vec<oneshot::Sender<Instance>>>>);

/// Somebody who waits; forgotten when dropped.
struct Watch<'a> {
    watchers: &'a Watchers,
    id: Uuid,
    told: oneshot::Receiver<Instance>,
}

impl Watchers {
    fn watch(&self, id: Uuid) -> Watch<'_> {
        let (sender, told) = oneshot::channel();
        self.0.lock().entry(id).or_default().push(sender);
        Watch {
            watchers: self,
            id,
            told,
        }
    }

    pub(super) fn tell(&self, instance: &Instance) {
        let watchers = self.0.lock().remove(&instance.id);
        for watcher in watchers.into_iter().flatten() {
            // Who does not wait any more needs no answer.
            watcher.send(instance.clone()).ok();
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.told.close();
        let mut watchers = self.watchers.0.lock();
        if let Some(of) = watchers.get_mut(&self.id) {
            of.retain(|watcher| !watcher.is_closed());
            if of.is_empty() {
                watchers.remove(&self.id);
            }
        }
    }
}

impl<H: Host> Engine<H> {
    /// Waits until an instance has ended or is parked.
    ///
    /// # Errors
    /// `NotFound`, and what the journal says.
    pub async fn settled(&self, which: &Which) -> Result<Instance> {
        let parts = &self.0;
        let id = match which {
            Which::Id(id) => *id,
            Which::Key(..) => parts.stands(which).await?.0,
        };
        loop {
            let mut watch = parts.watchers.watch(id);
            // One that sits here is told of later. Another may have ended before, or in another process.
            if !parts.seats.has(&id) && parts.stands(&Which::Id(id)).await?.1 {
                return Ok(parts.load(&Which::Id(id)).await?.instance);
            }
            if let Ok(Ok(instance)) = timeout(parts.settings.poll, &mut watch.told).await {
                return Ok(instance);
            }
        }
    }
}

impl<H: Host> Parts<H> {
    /// Which one it is, and whether it has ended or is parked.
    async fn stands(&self, which: &Which) -> Result<(Uuid, bool)> {
        let one = self.look(which).await?;
        Ok((one.id, one.state.has_ended() || one.state == State::Parked))
    }

    /// One instance, as a list has it.
    pub(super) async fn look(&self, which: &Which) -> Result<Instance> {
        let one = Query {
            max: 1,
            ..Query::default()
        };
        let query = match which {
            Which::Id(id) => Query {
                id: Some(*id),
                ..one
            },
            Which::Key(saga, key) => Query {
                saga: Some(saga.clone()),
                key: Some(key.clone()),
                ..one
            },
        };
        let found = self.journal.list(&query).await?.into_iter().next();
        found.ok_or_else(|| not_found(which))
    }
}
