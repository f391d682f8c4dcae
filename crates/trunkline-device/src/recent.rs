//! The ids that were made for messages that the broker may hand over again.

use std::collections::{HashMap, VecDeque};

use bytestring::ByteString;

/// What was made of the last messages, by their packet's number. A number is used again in time, so the content counts too.
#[derive(Debug)]
pub(crate) struct Recent {
    ids: HashMap<u16, (u64, ByteString)>,
    order: VecDeque<u16>,
    max: usize,
}

impl Recent {
    /// Remembers the last `max`: as many as can be unacknowledged.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            ids: HashMap::new(),
            order: VecDeque::new(),
            max,
        }
    }

    pub(crate) fn get(&self, packet: u16, hash: u64) -> Option<ByteString> {
        let (known, id) = self.ids.get(&packet)?;
        (*known == hash).then(|| id.clone())
    }

    /// A message without a number is not handed over again.
    pub(crate) fn note(&mut self, packet: u16, hash: u64, id: ByteString) {
        if packet == 0 {
            return;
        }
        if self.ids.insert(packet, (hash, id)).is_none() {
            self.order.push_back(packet);
        }
        while self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_with_other_content_is_another_message() {
        let mut recent = Recent::new(2);
        recent.note(1, 10, "a".into());
        assert_eq!(recent.get(1, 10).as_deref(), Some("a"));
        assert_eq!(recent.get(1, 11), None);
        recent.note(1, 11, "b".into());
        assert_eq!(recent.get(1, 10), None);
        recent.note(2, 20, "c".into());
        recent.note(3, 30, "d".into());
        assert_eq!(recent.get(1, 11), None, "no more than its bound");
        assert_eq!(recent.get(3, 30).as_deref(), Some("d"));
        recent.note(0, 40, "e".into());
        assert_eq!(recent.get(0, 40), None);
    }
}
