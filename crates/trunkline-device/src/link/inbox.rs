//! What came and is not settled yet, over as many connections as that takes.

use std::collections::{HashMap, VecDeque};

use bytestring::ByteString;
use trunkline_core::Envelope;

/// What is held of a message: by which packets it came, of which connections.
#[derive(Debug)]
struct Held {
    id: ByteString,
    packets: Vec<(u64, u16)>,
}

/// The messages that are not settled.
///
/// When a connection breaks, what came by it is handled all the same: a broker that died with it may have forgotten it. What
/// the broker hands over again joins what is held already, by its id. So no more is held than two connections bring: see
/// [`Inbox::has_room`].
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Which connection it is, counted. Packets' numbers mean something within one only.
    epoch: u64,
    tokens: u64,
    held: HashMap<u64, Held>,
    by_id: HashMap<ByteString, u64>,
    queue: VecDeque<(u64, Box<Envelope>, bool)>,
    pub(super) is_closed: bool,
}

impl Inbox {
    /// A connection has ended.
    pub(super) fn ended(&mut self) {
        self.epoch += 1;
    }

    /// How many are held.
    pub(super) fn count(&self) -> usize {
        self.held.len()
    }

    /// How many have not been given out; any number once it is closed, for nothing is worth waiting for then.
    pub(super) fn waiting(&self) -> usize {
        if self.is_closed {
            usize::MAX
        } else {
            self.queue.len()
        }
    }

    /// Whether a connection that brings `in_flight_max` may be made.
    pub(super) fn has_room(&self, in_flight_max: usize) -> bool {
        self.held.len() <= in_flight_max
    }

    /// Takes a message.
    pub(super) fn push(&mut self, packet: u16, envelope: Box<Envelope>, again: bool) {
        let place = (self.epoch, packet);
        if let Some(held) = self
            .by_id
            .get(&envelope.id)
            .and_then(|token| self.held.get_mut(token))
        {
            held.packets.retain(|(epoch, _)| *epoch == self.epoch);
            held.packets.push(place);
            return;
        }
        self.tokens += 1;
        let id = envelope.id.clone();
        self.by_id.insert(id.clone(), self.tokens);
        let packets = vec![place];
        self.held.insert(self.tokens, Held { id, packets });
        self.queue.push_back((self.tokens, envelope, again));
    }

    /// Gives out at most `max`.
    pub(super) fn take(&mut self, max: usize) -> Vec<(u64, Box<Envelope>, bool)> {
        let count = max.max(1).min(self.queue.len());
        self.queue.drain(..count).collect()
    }

    /// A message is settled. Gives the packets by which it came on the connection at hand.
    pub(super) fn settle(&mut self, token: u64) -> Vec<u16> {
        let Some(Held { id, packets }) = self.held.remove(&token) else {
            return Vec::new();
        };
        self.by_id.remove(&id);
        let current = packets
            .into_iter()
            .filter(|(epoch, _)| *epoch == self.epoch);
        current
            .map(|(_, packet)| packet)
            .filter(|packet| *packet != 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use trunkline_bus::unreadable;
    use trunkline_core::Timestamp;

    use super::*;

    fn message(id: &str) -> Box<Envelope> {
        Box::new(unreadable(
            "t",
            id.to_owned(),
            Bytes::new(),
            Timestamp::UNIX_EPOCH,
        ))
    }

    #[test]
    fn what_comes_again_joins_what_is_held_and_is_acknowledged_where_it_came_last() {
        let mut inbox = Inbox::default();
        inbox.push(7, message("a"), false);
        inbox.push(8, message("b"), false);
        let taken = inbox.take(10);
        assert_eq!(taken.len(), 2);
        inbox.ended();
        inbox.push(1, message("a"), true);
        inbox.push(2, message("a"), true);
        assert!(inbox.take(10).is_empty(), "it is being handled");
        assert_eq!(inbox.settle(taken[0].0), [1, 2]);
        assert!(inbox.settle(taken[0].0).is_empty(), "once");
        // The number of a packet of a connection that is lost is another message's by now.
        assert!(inbox.settle(taken[1].0).is_empty());
        assert_eq!(inbox.count(), 0);
        inbox.push(3, message("a"), false);
        assert_eq!(inbox.take(10).len(), 1);
        assert!(inbox.has_room(1) && !inbox.has_room(0));
    }
}
