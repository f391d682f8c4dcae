//! A saga that another waits for.

use std::sync::Arc;

use bytestring::ByteString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use trunkline_core::Result;
use uuid::Uuid;

use super::Saga;
use super::undo::{How, Undo};
use crate::Data;
use crate::engine::Begin;
use crate::host::Host;
use crate::journal::{Body, Entry, Fault, Instance, Message, State, Which};
use crate::live::{CANCEL, Halt, Kind, Live};

/// How a child ended, as its parent is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum End {
    Completed(Data),
    Failed(Fault),
}

impl<H: Host> Saga<H> {
    /// Starts another saga and waits for its end: what it returned.
    ///
    /// # Guarantees
    /// One child, however often this is done. When this saga is cancelled the child is too; when it fails later, what a
    /// completed child did is undone by the child's own compensations.
    ///
    /// # Errors
    /// Why the child failed; that this saga was cancelled; `NotFound` for a saga that is not declared here.
    pub async fn child<O: DeserializeOwned>(
        &self,
        saga: impl Into<ByteString>,
        input: &impl Serialize,
    ) -> Result<O> {
        let (name, live) = (saga.into(), &self.live);
        let place = self.enter();
        let began = live.env().now();
        let mut child = Child::default();
        for entry in live.past(&place, &name, Kind::Child) {
            child.was(entry);
        }
        if child.id.is_none() && child.cancelled.is_none() {
            self.go_on(&place).await;
            child.cancelled = live
                .cancelled(&place, &name, false)
                .map(|error| Fault::of(&error));
        }
        if let (None, Some(error)) = (child.id, &child.cancelled) {
            return Err(error.error());
        }
        let id = match child.id {
            Some(id) => id,
            None => {
                live.begins().await;
                let id = self.start_child(&place, &name, Data::of(input)?).await?;
                live.note(&place, &name, began, Body::Child { id });
                id
            }
        };
        let (seq, end) = match child.end {
            Some(known) => known,
            None => {
                self.go_on(&place).await;
                let ended = self.await_child(&place, &name, id, &mut child.cancelled);
                let ended = ended.await;
                self.leave_frontier();
                ended
            }
        };
        match (self.decoded::<End>(&end).await, child.cancelled) {
            (End::Failed(_), Some(error)) => Err(error.error()),
            (End::Failed(error), None) => Err(error.error()),
            (End::Completed(output), cancelled) => {
                live.push_undo(Undo {
                    place: place.clone(),
                    name: name.clone(),
                    seq,
                    how: How::Child(id),
                });
                match cancelled {
                    Some(error) => Err(error.error()),
                    None => Ok(self.decoded(&output).await),
                }
            }
        }
    }

    async fn start_child(&self, place: &str, saga: &ByteString, input: Data) -> Result<Uuid> {
        let live = &self.live;
        let _busy = live.busy();
        live.flush().await;
        let parent = self.instance();
        let begin = Begin {
            context: parent.context.clone(),
            correlation_id: parent.correlation_id.clone(),
            parent: Some(parent.id),
        };
        let key = format!("{}:{place}", parent.id);
        let started = live.parts.start(saga, &key, input, begin).await?;
        Ok(started.id)
    }

    async fn await_child(
        &self,
        place: &ByteString,
        name: &ByteString,
        id: Uuid,
        cancelled: &mut Option<Fault>,
    ) -> (u64, Data) {
        let live = &self.live;
        let began = live.env().now();
        let told = ended_name(id, false);
        loop {
            if cancelled.is_some() {
                cancel_child(live, id).await;
            }
            let waits = cancelled.is_none();
            let ready = live.rest(None, |live| {
                if let Some(error) = live.cancelled(place, name, false).filter(|_| waits) {
                    return Some(Err(error));
                }
                live.take_message(&told).map(Ok)
            });
            match ready.await {
                Some(Ok(message)) => {
                    let body = Body::Received {
                        message: message.id,
                        data: message.data.clone(),
                    };
                    return (live.note(place, name, began, body), message.data);
                }
                Some(Err(error)) => *cancelled = Some(Fault::of(&error)),
                None => {}
            }
        }
    }
}

/// What the journal has of a child.
#[derive(Default)]
struct Child {
    id: Option<Uuid>,
    end: Option<(u64, Data)>,
    cancelled: Option<Fault>,
}

impl Child {
    fn was(&mut self, entry: Entry) {
        match entry.body {
            Body::Child { id } => self.id = Some(id),
            Body::Received { data, .. } if self.end.is_none() => self.end = Some((entry.seq, data)),
            Body::Cancelled { error, .. } => self.cancelled = Some(error),
            _ => {}
        }
    }
}

async fn cancel_child<H: Host>(live: &Arc<Live<H>>, id: Uuid) {
    let _busy = live.busy();
    live.flush().await;
    let message = Message {
        id: format!("cancel:{}", live.instance.id).into(),
        name: ByteString::from_static(CANCEL),
        data: Data::of("its parent was cancelled").unwrap_or_else(|_| Data::null()),
        at: live.env().now(),
    };
    // One that has ended tells so.
    let told = live.parts.tell(Which::Id(id), message).await;
    if let Err(error) = told {
        live.halted::<()>(Halt::Park(Fault::of(&error))).await;
    }
}

/// Has a completed child undo what it did, and waits until it has.
pub(super) async fn undo<H: Host>(live: &Arc<Live<H>>, of: &Undo<H>, id: Uuid) {
    let began = live.env().now();
    let told = ended_name(id, true);
    {
        let _busy = live.busy();
        live.flush().await;
        let message = format!("revoke:{}", live.instance.id);
        let revoked = live
            .parts
            .revoke(Which::Id(id), &message, "its parent failed")
            .await;
        if let Err(error) = revoked {
            live.halted::<()>(Halt::Park(Fault::of(&error))).await;
        }
    }
    if let Some(message) = live.rest(None, |live| live.take_message(&told)).await {
        let body = Body::Received {
            message: message.id,
            data: message.data,
        };
        live.note(&of.place, &of.name, began, body);
    }
    let undone = Body::Undone {
        attempt: 1,
        by: None,
    };
    live.note(&of.place, &of.name, began, undone);
}

/// What a parent waits for: the end of its child, or that it is undone.
fn ended_name(id: Uuid, revoked: bool) -> ByteString {
    let what = if revoked { "undone" } else { "ended" };
    format!("$child:{id}:{what}").into()
}

/// What the parent of an instance is told of its end.
pub(crate) fn told(
    instance: &Instance,
    revoked: bool,
    now: jiff::Timestamp,
) -> Option<(Uuid, Message)> {
    let parent = instance.parent?;
    let end = match (instance.state, &instance.output, &instance.error) {
        (State::Completed, Some(output), _) => End::Completed(output.clone()),
        (_, _, Some(error)) => End::Failed(error.clone()),
        _ => return None,
    };
    let name = ended_name(instance.id, revoked);
    let message = Message {
        id: name.clone(),
        name,
        data: Data::of(&end).ok()?,
        at: now,
    };
    Some((parent, message))
}
