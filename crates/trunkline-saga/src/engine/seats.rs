//! The instances that this process has, from before it reads them until after it gave them away.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::Parts;
use crate::host::Host;
use crate::journal::{Message, Which};
use crate::live::Live;

/// The instances that this process has.
pub(super) struct Seats<H: Host>(Mutex<Kept<H>>);

struct Kept<H: Host> {
    by_id: HashMap<Uuid, (u64, Sitting<H>)>,
    next: u64,
}

/// Who sits there.
enum Sitting<H: Host> {
    /// It is about to be written or read, or is just given away. What it is told meanwhile is kept for it: the journal may
    /// have been read before.
    Away(Vec<Message>),
    /// It runs.
    Here(Arc<Live<H>>),
}

/// An instance's place, as long as this process has it.
pub(super) struct Seat<H: Host> {
    parts: Arc<Parts<H>>,
    id: Uuid,
    /// An instance may be taken up again before whoever had it last has cleared its seat.
    number: u64,
    _slot: OwnedSemaphorePermit,
}

impl<H: Host> Seats<H> {
    /// Gives messages to an instance that this process has; whether it has it.
    pub(super) fn tell(&self, which: &Which, messages: Vec<Message>) -> bool {
        let mut kept = self.0.lock();
        let seat = match which {
            Which::Id(id) => kept.by_id.get_mut(id),
            Which::Key(saga, key) => kept.by_id.values_mut().find(|(_, seat)| match seat {
                Sitting::Here(live) => live.instance.saga == *saga && live.instance.key == *key,
                // The next look at the journal finds its id.
                Sitting::Away(_) => false,
            }),
        };
        match seat {
            None => return false,
            Some((_, Sitting::Here(live))) => live.tell(messages),
            Some((_, Sitting::Away(kept))) => kept.extend(messages),
        }
        true
    }

    pub(super) fn has(&self, id: &Uuid) -> bool {
        self.0.lock().by_id.contains_key(id)
    }

    /// All that run look at how they stand.
    pub(super) fn wake(&self) {
        for (_, seat) in self.0.lock().by_id.values() {
            if let Sitting::Here(live) = seat {
                live.wake();
            }
        }
    }
}

impl<H: Host> Seat<H> {
    /// A seat for an instance that is not here yet.
    pub(super) fn new(parts: &Arc<Parts<H>>, id: Uuid, slot: OwnedSemaphorePermit) -> Self {
        let mut kept = parts.seats.0.lock();
        kept.next += 1;
        let number = kept.next;
        let before = kept.by_id.remove(&id);
        let messages = match &before {
            Some((_, Sitting::Away(messages))) => messages.clone(),
            _ => Vec::new(),
        };
        kept.by_id.insert(id, (number, Sitting::Away(messages)));
        drop(kept);
        Self {
            parts: parts.clone(),
            id,
            number,
            _slot: slot,
        }
    }

    /// It is here, and is told what came meanwhile.
    pub(super) fn sits(&self, live: &Arc<Live<H>>) {
        if let Some(Sitting::Away(messages)) = self.seats(Sitting::Here(live.clone())) {
            live.tell(messages);
        }
    }

    /// Nobody drives it any more.
    pub(super) fn stands_up(&self) {
        drop(self.seats(Sitting::Away(Vec::new())));
    }

    /// What sat there before, if the seat is still its own.
    fn seats(&self, who: Sitting<H>) -> Option<Sitting<H>> {
        let mut kept = self.parts.seats.0.lock();
        let (number, sitting) = kept.by_id.get_mut(&self.id)?;
        (*number == self.number).then(|| std::mem::replace(sitting, who))
    }
}

impl<H: Host> Drop for Seat<H> {
    fn drop(&mut self) {
        let left = {
            let mut kept = self.parts.seats.0.lock();
            match kept.by_id.get(&self.id) {
                Some((number, _)) if *number == self.number => kept.by_id.remove(&self.id),
                _ => None,
            }
        };
        if let Some((_, Sitting::Away(messages))) = left
            && !messages.is_empty()
        {
            // It was told something when it was given away already: whoever is free takes it up.
            self.parts.due.notify_one();
        }
    }
}

impl<H: Host> Default for Seats<H> {
    fn default() -> Self {
        Self(Mutex::new(Kept {
            by_id: HashMap::new(),
            next: 0,
        }))
    }
}
