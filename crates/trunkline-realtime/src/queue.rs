//! What waits to be sent to one client.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::packet::Frame;

/// What is sent, and what may happen to it before it is.
#[derive(Debug, Clone)]
pub(crate) struct Out {
    pub(crate) frame: Arc<Frame>,
    /// Only the last one of a key is worth sending.
    pub(crate) latest: Option<ByteString>,
    /// It may be lost: it is not sent to whoever is behind.
    pub(crate) volatile: bool,
}

impl Out {
    pub(crate) fn of(frame: Frame) -> Self {
        Self {
            frame: Arc::new(frame),
            latest: None,
            volatile: false,
        }
    }
}

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) packets: usize,
    pub(crate) bytes: usize,
}

/// A client that is behind by more than its bounds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Behind;

#[derive(Debug, Default)]
struct Waiting {
    packets: VecDeque<Out>,
    bytes: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    more: Notify,
    woken: AtomicBool,
}

impl Queue {
    /// Puts a packet at the end, or in the place of an earlier one of its key.
    ///
    /// # Errors
    /// When the client is behind: the packet is not taken.
    pub(crate) fn push(&self, out: Out, bounds: Bounds) -> Result<(), Behind> {
        let mut waiting = self.waiting.lock();
        if out.volatile && !waiting.packets.is_empty() {
            return Ok(());
        }
        let size = out.frame.len();
        if let Some(key) = &out.latest {
            let known = waiting
                .packets
                .iter_mut()
                .find(|one| one.latest.as_ref() == Some(key));
            if let Some(known) = known {
                let before = known.frame.len();
                *known = out;
                waiting.bytes = (waiting.bytes + size).saturating_sub(before);
                return Ok(());
            }
        }
        if waiting.packets.len() >= bounds.packets || waiting.bytes + size > bounds.bytes {
            return Err(Behind);
        }
        waiting.bytes += size;
        waiting.packets.push_back(out);
        drop(waiting);
        self.more.notify_one();
        Ok(())
    }

    /// The next packets, until they have so many bytes; at least one if there is any.
    pub(crate) fn take(&self, bytes_max: usize) -> Vec<Arc<Frame>> {
        let mut waiting = self.waiting.lock();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(next) = waiting.packets.front() {
            let size = next.frame.len();
            if !taken.is_empty() && bytes + size > bytes_max {
                break;
            }
            bytes += size;
            waiting.bytes -= size;
            taken.extend(waiting.packets.pop_front().map(|out| out.frame));
        }
        if waiting.packets.is_empty() {
            // Whoever was behind once needs no room for that for ever.
            waiting.packets.shrink_to(16);
        }
        taken
    }

    /// Waits until there is something, or until it is woken without.
    pub(crate) async fn ready(&self) {
        loop {
            if !self.waiting.lock().packets.is_empty() || self.woken.swap(false, Ordering::AcqRel) {
                return;
            }
            self.more.notified().await;
        }
    }

    /// Wakes whoever waits, although there is nothing.
    pub(crate) fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.more.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        packets: 3,
        bytes: 10,
    };

    fn out(text: &str) -> Out {
        Out::of(Frame::text(text.to_owned()))
    }

    fn taken(queue: &Queue, bytes: usize) -> Vec<String> {
        queue
            .take(bytes)
            .iter()
            .map(|frame| frame.text.to_string())
            .collect()
    }

    #[test]
    fn it_is_bounded_by_packets_and_by_bytes() {
        let queue = Queue::default();
        for text in ["a", "b", "c"] {
            queue.push(out(text), BOUNDS).unwrap();
        }
        assert_eq!(queue.push(out("d"), BOUNDS), Err(Behind));
        assert_eq!(taken(&queue, 2), ["a", "b"]);
        queue.push(out("123456789"), BOUNDS).unwrap();
        assert_eq!(queue.push(out("e"), BOUNDS), Err(Behind));
        // One that is longer than what is asked for is given alone.
        assert_eq!(taken(&queue, 1), ["c"]);
        assert_eq!(taken(&queue, 1), ["123456789"]);
    }

    #[test]
    fn of_a_key_the_latest_is_sent_and_what_is_volatile_only_to_who_is_not_behind() {
        let queue = Queue::default();
        let odds = |text: &str| Out {
            latest: Some("odds".into()),
            ..out(text)
        };
        let volatile = |text: &str| Out {
            volatile: true,
            ..out(text)
        };
        queue.push(volatile("now"), BOUNDS).unwrap();
        queue.push(odds("1.5"), BOUNDS).unwrap();
        queue.push(out("a"), BOUNDS).unwrap();
        queue.push(odds("1.75"), BOUNDS).unwrap();
        queue.push(volatile("late"), BOUNDS).unwrap();
        assert_eq!(taken(&queue, 100), ["now", "1.75", "a"]);
        queue.push(odds("2"), BOUNDS).unwrap();
        assert_eq!(taken(&queue, 100), ["2"]);
    }
}
