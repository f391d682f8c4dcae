//! What a saga's steps work with, and where their own effects commit.

use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;
use futures::future::{BoxFuture, ready};
use trunkline_core::{Error, Result};
use uuid::Uuid;

use crate::journal::{Instance, Went, Written};

/// Where an engine lives: it gives each attempt of a step something to work with, and commits what was done with it.
pub trait Host: Send + Sync + 'static {
    /// What a step's code is given: a connection to its service. Cheap to clone.
    type Work: Clone + Send + Sync + 'static;

    /// Begins an attempt.
    fn begin(&self, at: &At) -> Self::Work;

    /// Makes what an attempt did take effect, together with its entry in the journal where the host can.
    ///
    /// # Errors
    /// Nothing took effect, or with retry `Unknown` it is not known. The attempt has failed.
    fn commit<'a>(&'a self, work: &'a Self::Work, went: Went) -> BoxFuture<'a, Result<Committed>>;

    /// Undoes what an attempt did that failed with this.
    fn abandon<'a>(&'a self, _work: &'a Self::Work, _error: &'a Error) -> BoxFuture<'a, ()> {
        Box::pin(ready(()))
    }

    /// An instance has ended or is parked.
    fn settled(&self, _instance: &Instance) {}
}

/// How a commit went.
#[derive(Debug)]
pub enum Committed {
    /// There was nothing of the host's own: the engine is to write the entry.
    Apart(Went),
    /// The entry was written together with what was done.
    Together(Written),
}

/// Which attempt of which step it is.
#[derive(Debug, Clone)]
pub struct At {
    /// The instance, as it was when it was last read.
    pub instance: Arc<Instance>,
    /// The operation's place in its function.
    pub place: ByteString,
    /// The step's name.
    pub name: ByteString,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// It is the compensation.
    pub undo: bool,
}

impl At {
    /// The same for every attempt: `<instance>:<place>:<name>`, and with `:undo` the compensation. Who is told it does
    /// nothing twice.
    pub fn idempotency_key(&self) -> String {
        self.to_string()
    }

    /// An id for what the step makes: the same at every attempt.
    pub fn stable_id(&self) -> Uuid {
        stable_id(&self.instance.id, &self.to_string())
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.instance.id, self.place, self.name)?;
        f.write_str(if self.undo { ":undo" } else { "" })
    }
}

/// An id that is drawn from another and a text, always the same: a UUID of version 8.
pub(crate) fn stable_id(of: &Uuid, text: &str) -> Uuid {
    use sha2::{Digest, Sha256};
    let digest = Sha256::new()
        .chain_update(of.as_bytes())
        .chain_update(text)
        .finalize();
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(digest) {
        *to = from;
    }
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// A host without anything of its own: steps are given where they stand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Host for Plain {
    type Work = At;

    fn begin(&self, at: &At) -> At {
        at.clone()
    }

    fn commit<'a>(&'a self, _work: &'a At, went: Went) -> BoxFuture<'a, Result<Committed>> {
        Box::pin(ready(Ok(Committed::Apart(went))))
    }
}
