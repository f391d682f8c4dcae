//! What a piece of work sends, kept until it is known whether it is done.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use trunkline_core::{Error, ErrorKind, Result, report};

use crate::emit::Emit;
use crate::packet;
use crate::socket::Socket;

/// So many packets one piece of work may send.
const PACKETS_MAX: usize = 4_096;
/// And so many bytes.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Keeps what is sent by way of it until the work is done: then [`Stage::send`] sends it, in its order, or [`Stage::drop_all`] forgets
/// it. Whatever is sent after that is sent at once. Cheap to clone.
#[derive(Clone, Default)]
pub struct Stage(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    packets: Vec<Staged>,
    bytes: usize,
    leaves: Vec<Socket>,
    is_over: bool,
}

struct Staged {
    to: Emit,
    event: String,
    data: Box<RawValue>,
    bytes: Vec<Bytes>,
}

impl Staged {
    fn len(&self) -> usize {
        let attached: usize = self.bytes.iter().map(Bytes::len).sum();
        self.event.len() + self.data.get().len() + attached
    }

    fn send(self) -> Result<()> {
        self.to.emit_bytes(&self.event, &self.data, self.bytes)
    }
}

impl Stage {
    /// Sends what was kept. What can't be sent is told in the log: the work is done by then.
    pub fn send(&self) {
        let (packets, leaves) = self.end();
        for packet in packets {
            if let Err(error) = packet.send() {
                tracing::warn!(error = %report(&error), "what follows from work that is done could not be sent");
            }
        }
        leaves.iter().for_each(Socket::disconnect);
    }

    /// Forgets what was kept: the work came to nothing. Sockets that were to be disconnected still are.
    pub fn drop_all(&self) {
        let (_, leaves) = self.end();
        leaves.iter().for_each(Socket::disconnect);
    }

    /// Gives what was kept to another, which decides about it.
    pub fn give_to(&self, other: &Self) {
        let (packets, leaves) = self.end();
        let mut other = other.0.lock();
        other.packets.extend(packets);
        other.leaves.extend(leaves);
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        let state = self.0.lock();
        state.packets.is_empty() && state.leaves.is_empty()
    }

    fn end(&self) -> (Vec<Staged>, Vec<Socket>) {
        let mut state = self.0.lock();
        state.is_over = true;
        state.bytes = 0;
        let packets = std::mem::take(&mut state.packets);
        (packets, std::mem::take(&mut state.leaves))
    }

    /// Keeps an event, or sends it if the work is over.
    ///
    /// # Errors
    /// `InvalidInput` when the data can't be written as JSON; `TooLarge` (`stage_full`) when the work sends too much.
    pub(crate) fn put(
        &self,
        to: Emit,
        (event, data): (&str, &impl Serialize),
        bytes: Vec<Bytes>,
    ) -> Result<()> {
        packet::check_attachments(&bytes)?;
        let staged = Staged {
            to,
            event: event.to_owned(),
            data: to_raw_value(data).map_err(packet::unwritable)?,
            bytes,
        };
        let mut state = self.0.lock();
        if state.is_over {
            drop(state);
            return staged.send();
        }
        let size = staged.len();
        if state.packets.len() >= PACKETS_MAX || state.bytes + size > BYTES_MAX {
            let text = "one piece of work sends too much";
            return Err(Error::new(ErrorKind::TooLarge, "stage_full", text));
        }
        state.bytes += size;
        state.packets.push(staged);
        Ok(())
    }

    /// Disconnects a socket when the work is over, however it ends.
    pub(crate) fn disconnect(&self, socket: Socket) {
        let mut state = self.0.lock();
        if state.is_over {
            drop(state);
            return socket.disconnect();
        }
        state.leaves.push(socket);
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("Stage")
            .field("packets", &state.packets.len())
            .field("is_over", &state.is_over)
            .finish_non_exhaustive()
    }
}
