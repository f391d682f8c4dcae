//! Sending to many.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use serde::Serialize;
use trunkline_core::Result;

use crate::backbone::Offset;
use crate::namespace::{Shape, Space};
use crate::rooms::Target;
use crate::stage::Stage;

/// Of what is sent again by whoever does not know whether it was sent, such as an event of the bus.
#[derive(Debug, Clone, Copy)]
pub struct Once {
    /// Its own, wherever and whenever it is sent.
    pub id: Offset,
    /// It is of the past: kept for those who come back, and sent to nobody.
    pub is_past: bool,
}

/// To whom something is sent, and how.
#[derive(Clone)]
#[must_use = "nothing is sent before `emit`"]
pub struct Emit {
    space: Arc<Space>,
    target: Target,
    shape: Shape,
    /// To a socket that is connected here.
    is_here: bool,
    /// It waits for the work that it is part of.
    stage: Option<Stage>,
}

impl Emit {
    pub(crate) fn of(space: Arc<Space>, stage: Option<Stage>) -> Self {
        Self {
            space,
            target: Target::default(),
            shape: Shape::default(),
            is_here: false,
            stage,
        }
    }

    /// To one socket, which is connected here.
    pub(crate) fn here(space: Arc<Space>, id: ByteString, stage: Option<Stage>) -> Self {
        let mut emit = Self::of(space, stage).to(id);
        emit.is_here = true;
        emit
    }

    /// To those in this room too; to everybody, if no room is named. The id of a socket is a room of its own.
    pub fn to(mut self, room: impl Into<ByteString>) -> Self {
        self.target.rooms.push(room.into());
        self
    }

    /// But not to this socket.
    pub fn except(mut self, id: ByteString) -> Self {
        self.target.except = Some(id);
        self
    }

    /// It may be lost: whoever is behind does not get it, and nobody gets it later.
    pub fn volatile(mut self) -> Self {
        self.shape.volatile = true;
        self
    }

    /// Only the latest of a key is worth sending, such as the odds of a bet: whoever is behind gets the last one in the place of those before it.
    pub fn latest(mut self, key: impl Into<ByteString>) -> Self {
        self.shape.latest = Some(key.into());
        self
    }

    /// At once, although the work that it is part of is not done yet, and whether that comes to something or not: how far it is, say.
    pub fn at_once(mut self) -> Self {
        self.stage = None;
        self
    }

    /// Sends an event; within the work of a handler of a service, when that has committed.
    ///
    /// # Errors
    /// `InvalidInput` when the data can't be written as JSON; `TooLarge` (`stage_full`) when one piece of work sends more than 4,096
    /// events or 16 MiB.
    pub fn emit(self, event: &str, data: &impl Serialize) -> Result<()> {
        self.emit_bytes(event, data, Vec::new())
    }

    /// Sends an event with bytes, which are further arguments.
    ///
    /// # Errors
    /// Those of [`Emit::emit`], and for more than 64 attachments.
    pub fn emit_bytes(
        mut self,
        event: &str,
        data: &impl Serialize,
        bytes: Vec<Bytes>,
    ) -> Result<()> {
        if let Some(stage) = self.stage.take() {
            return stage.put(self, (event, data), bytes);
        }
        let what = (bytes, self.shape);
        match self.is_here {
            true => self.space.send_here(&self.target, (event, data), what),
            false => self.space.send(&self.target, (event, data), what),
        }
    }

    /// Sends at once what may be sent again, by this node or another: among nodes that [joined](crate::Realtime::join) everybody gets it once, and
    /// without them a namespace that [recovers](crate::Namespace::recovers) sends it once as long as it keeps it. Where nodes have
    /// joined it is in their log when this is done.
    ///
    /// # Errors
    /// `InvalidInput` when the data can't be written as JSON; what the log says.
    pub async fn emit_once(
        self,
        once: Once,
        event: &str,
        data: &(impl Serialize + Sync),
    ) -> Result<()> {
        let (target, event) = (&self.target, (event, data));
        self.space.send_once(target, once, event, self.shape).await
    }

    /// How many of those who are connected to this node get it if it is sent now.
    pub fn count(&self) -> usize {
        let mut count = 0;
        self.space.rooms.each(&self.target, |_| count += 1);
        count
    }

    /// The users among them.
    pub fn users(&self) -> BTreeSet<ByteString> {
        let mut users = BTreeSet::new();
        self.space.rooms.each(&self.target, |socket| {
            users.extend(socket.member.user.clone())
        });
        users
    }
}

impl fmt::Debug for Emit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emit")
            .field("namespace", &self.space.name)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}
