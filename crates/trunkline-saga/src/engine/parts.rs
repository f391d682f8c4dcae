//! What the engine does for its instances and for those who ask.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytestring::ByteString;
use tokio::sync::mpsc;
use trunkline_core::{Error, Result};

use super::{Begin, Engine, Parts, Seat, not_found};
use crate::Data;
use crate::definition::{Definition, Failed, Function};
use crate::host::Host;
use crate::journal::{Instance, KEY_BYTES_MAX, Message, Record, State, Which, Write, Written};

impl<H: Host> Parts<H> {
    pub(crate) fn function(&self, instance: &Instance) -> Result<Function<H>> {
        let definition = self.definition(&instance.saga)?;
        definition.function(instance.version).cloned()
    }

    /// What is done when an instance has come to nothing, if its saga says so.
    pub(crate) fn failed(&self, instance: &Instance) -> Option<Failed<H>> {
        self.definitions.get(&instance.saga)?.failed.clone()
    }

    fn definition(&self, saga: &ByteString) -> Result<&Definition<H>> {
        self.definitions.get(saga).ok_or_else(|| {
            Error::not_found("saga_unknown", "no saga of this name is declared here")
                .with("saga", saga)
        })
    }

    /// Writes, and says what came of it once it is durable: see [`Writer`](crate::writer::Writer).
    pub(crate) async fn write(&self, write: Write) -> Result<Written> {
        let written = self.writer.write(write).await?;
        self.committed();
        Ok(written)
    }

    /// Something of an instance is durable.
    pub(crate) fn committed(&self) {
        let now = self.env.now().as_microsecond();
        self.last_commit.store(now, Ordering::Release);
    }

    pub(crate) async fn start(
        self: &Arc<Self>,
        saga: &ByteString,
        key: &str,
        input: Data,
        begin: Begin,
    ) -> Result<Instance> {
        let mut instance = self.new_instance(saga, key, input, begin)?;
        let may_own = self.known.load(Ordering::Acquire) && !self.stopping.load(Ordering::Acquire);
        let slot = self.slots.clone().try_acquire_owned().ok();
        let seat = slot
            .filter(|_| may_own)
            .map(|slot| Seat::new(self, instance.id, slot));
        if seat.is_some() {
            instance.owner = Some(self.owner.clone());
        } else {
            instance.wake_at = Some(instance.started_at);
        }
        let write = Write::Start(Box::new(instance.clone()));
        let written = self.write(write).await?;
        let is_new = match &written {
            // A write that was repeated finds itself.
            Written::Exists(there) => there.id == instance.id,
            _ => true,
        };
        if is_new {
            metrics::counter!("trunkline_saga_started_total", "saga" => saga.to_string())
                .increment(1);
        }
        if let (true, Some(seat)) = (is_new, seat) {
            let record = Record {
                instance: instance.clone(),
                entries: Vec::new(),
                messages: Vec::new(),
            };
            if let Err(mpsc::error::TrySendError::Full(_)) = self.starts.try_send((record, seat)) {
                tracing::warn!(%saga, key, "a saga that was just started waits for the lease's end");
            }
        } else if is_new {
            self.due.notify_one();
        }
        Engine::<H>::started(instance, written)
    }

    pub(super) fn new_instance(
        &self,
        saga: &ByteString,
        key: &str,
        input: Data,
        begin: Begin,
    ) -> Result<Instance> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Error::invalid(
                "saga_key_invalid",
                "a saga's key is expected to have 1 to 256 bytes",
            )
            .with("bytes", key.len()));
        }
        let version = self.definition(saga)?.newest()?;
        let now = self.env.now();
        Ok(Instance {
            id: self.env.id(),
            saga: saga.clone(),
            key: key.into(),
            version,
            state: State::Running,
            input,
            context: begin.context,
            correlation_id: begin.correlation_id,
            status: None,
            output: None,
            error: None,
            started_at: now,
            changed_at: now,
            wake_at: None,
            owner: None,
            parent: begin.parent,
        })
    }

    pub(crate) async fn tell(&self, which: Which, message: Message) -> Result<Written> {
        let write = Write::Tell(which.clone(), message.clone());
        let written = self.write(write).await?;
        // Who is not here is found in the journal.
        if written == Written::Done && !self.seats.tell(&which, vec![message]) {
            self.due.notify_one();
        }
        Ok(written)
    }

    pub(crate) async fn load(&self, which: &Which) -> Result<Record> {
        self.journal
            .load(which)
            .await?
            .ok_or_else(|| not_found(which))
    }
}
