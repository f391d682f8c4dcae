//! How a piece of work ends: all that was done takes effect, or nothing.

use trunkline_core::{Envelope, Result, Timestamp};
use trunkline_saga::{Committed, Went, Write, Written};
use trunkline_security::AuditEntry;
use trunkline_store::{StoredResponse, Tx};

use std::sync::atomic::Ordering;

use super::Cx;

/// An idempotent request's scope, key and answer, stored with its transaction.
pub(crate) struct Completion<'a> {
    pub(crate) scope: &'a str,
    pub(crate) key: &'a str,
    pub(crate) response: &'a StoredResponse,
}

/// What was done beside rows.
struct Effects {
    outgoing: Vec<(Envelope, Option<Timestamp>)>,
    notes: Vec<AuditEntry>,
}

impl Effects {
    fn is_empty(&self) -> bool {
        self.outgoing.is_empty() && self.notes.is_empty()
    }
}

impl Cx {
    /// Makes what was done take effect, all of it or nothing.
    pub(crate) async fn finish(&self, completion: Option<Completion<'_>>) -> Result<()> {
        let mut guard = self.0.tx.clone().lock_owned().await;
        let mut effects = self.take_effects();
        let needed = !effects.is_empty() || completion.is_some() || self.0.inbox.is_some();
        if guard.is_none() && needed {
            let mut tx = self.0.runtime.store.begin().await?;
            self.record(&mut tx).await?;
            *guard = Some(tx);
        }
        let Some(tx) = guard.as_mut() else {
            self.settled().await?;
            self.0.stage.send();
            return Ok(());
        };
        send(tx, &mut effects).await?;
        if let Some(Completion {
            scope,
            key,
            response,
        }) = completion
        {
            tx.complete_idempotent(scope, key, response).await?;
        }
        self.note(tx, &effects).await?;
        match guard.take() {
            Some(tx) if !self.0.shared => self.commit(tx).await,
            kept => {
                *guard = kept;
                if let Some(batch) = &self.0.batch {
                    self.0.stage.give_to(batch);
                }
                Ok(())
            }
        }
    }

    /// Makes what a saga's step did take effect together with its entry in the journal.
    pub(crate) async fn finish_step(&self, went: Went) -> Result<Committed> {
        let mut guard = self.0.tx.clone().lock_owned().await;
        let mut effects = self.take_effects();
        if guard.is_none() && effects.is_empty() && self.0.stage.is_empty() {
            return Ok(Committed::Apart(went));
        }
        let mut tx = match guard.take() {
            Some(tx) => tx,
            None => self.0.runtime.store.begin().await?,
        };
        send(&mut tx, &mut effects).await?;
        let written = tx.saga(&Write::Went(went)).await?;
        if written != Written::Done {
            // Somebody else has the instance: nothing of this attempt is to be.
            tx.rollback().await?;
            self.0.stage.drop_all();
            return Ok(Committed::Together(written));
        }
        self.note(&mut tx, &effects).await?;
        self.commit(tx).await?;
        Ok(Committed::Together(written))
    }

    /// Undoes what was done, unless the transaction is somebody else's.
    pub(crate) async fn undo(&self) {
        drop(self.take_effects());
        self.0.stage.drop_all();
        if !self.0.shared
            && let Some(tx) = self.0.tx.lock().await.take()
            && let Err(error) = tx.rollback().await
        {
            tracing::debug!(%error, "a rollback failed; the store undoes it when it finds out");
        }
        if let Err(error) = self.settled().await {
            tracing::debug!(%error, "what a failure was drawn from may not be on disk");
        }
    }

    /// Waits until what was read is on disk; a commit has waited for it by itself.
    async fn settled(&self) -> Result<()> {
        match self.0.has_read.load(Ordering::Acquire) {
            true => self.0.runtime.store.settled().await,
            false => Ok(()),
        }
    }

    fn take_effects(&self) -> Effects {
        Effects {
            outgoing: std::mem::take(&mut *self.0.outgoing.lock()),
            notes: std::mem::take(&mut *self.0.notes.lock()),
        }
    }

    /// The last thing, because others who append to the audit log wait until this transaction ends.
    async fn note(&self, tx: &mut Tx, effects: &Effects) -> Result<()> {
        if effects.notes.is_empty() {
            return Ok(());
        }
        let log = &self.0.runtime.audit_log;
        log.append_in(tx, &effects.notes).await
    }

    /// Commits, and tells whoever has work from what was touched, and the browsers that are to hear of it.
    async fn commit(&self, tx: Tx) -> Result<()> {
        tx.commit().await?;
        self.0.stage.send();
        if self.0.touched.load(Ordering::Acquire) {
            self.0.runtime.committed();
        }
        Ok(())
    }
}

async fn send(tx: &mut Tx, effects: &mut Effects) -> Result<()> {
    for (envelope, at) in effects.outgoing.drain(..) {
        match at {
            None => tx.publish(envelope).await?,
            Some(at) => tx.publish_at(envelope, at).await?,
        }
    }
    Ok(())
}
