//! The tasks that read and write a connection's socket.

use std::collections::HashMap;
use std::io::{Error as IoError, ErrorKind as IoKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;
use trunkline_core::{Error, Result};

use super::codec::{
    self, FRAME_BODY, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD, FRAME_OVERHEAD, Fields, Frame,
};
use super::connection::{Delivered, OUT_BYTES_MAX, Slot, Wire};
use super::method;
use crate::error;

/// How much is read at once, about.
const READ_BYTES: usize = 1 << 16;
/// What is reserved for a body before it has come.
const BODY_RESERVED_MAX: usize = 1 << 20;

/// Writes what is to be sent, and heartbeats when there is nothing, until the connection ends.
pub(super) async fn write(wire: Arc<Wire>, mut socket: OwnedWriteHalf) {
    let mut batch = BytesMut::with_capacity(READ_BYTES);
    while wire.check().is_ok() {
        if wire.out.lock().is_empty() {
            let idle = timeout(wire.heartbeat / 2, wire.work.notified()).await;
            if idle.is_ok() {
                continue;
            }
            wire.send(|out| codec::frame(out, FRAME_HEARTBEAT, 0, |_| {}));
        }
        std::mem::swap(&mut batch, &mut *wire.out.lock());
        wire.room.notify_waiters();
        let mut rest = &*batch;
        while !rest.is_empty() {
            match socket.write_buf(&mut rest).await {
                Ok(0) => wire.end(error::lost(IoKind::WriteZero.into())),
                Ok(count) => {
                    wire.written.fetch_add(count as u64, Ordering::Relaxed);
                    continue;
                }
                Err(error) => wire.end(error::lost(error)),
            }
            break;
        }
        batch.clear();
        if batch.capacity() > 2 * OUT_BYTES_MAX {
            batch = BytesMut::with_capacity(READ_BYTES);
        }
    }
}

/// Reads what comes until the connection ends. A server that is silent for two heartbeats is gone.
pub(super) async fn read(wire: Arc<Wire>, socket: OwnedReadHalf, rest: BytesMut) {
    let mut reader = Reader {
        wire: wire.clone(),
        socket,
        buffer: rest,
        messages: HashMap::new(),
    };
    let error = reader.run().await;
    wire.end(error);
}

struct Reader {
    wire: Arc<Wire>,
    socket: OwnedReadHalf,
    buffer: BytesMut,
    /// Messages that have not come whole, by channel.
    messages: HashMap<u16, Partial>,
}

struct Partial {
    /// None for a message that was returned: nobody asked for it.
    delivered: Option<Delivered>,
    body: BytesMut,
    left: usize,
}

impl Reader {
    async fn run(&mut self) -> Error {
        loop {
            loop {
                match codec::take_frame(&mut self.buffer, self.wire.frame_max) {
                    Ok(None) => break,
                    Err(_) => return error::odd("a frame"),
                    Ok(Some(frame)) => {
                        if let Err(error) = self.take(frame) {
                            return error;
                        }
                    }
                }
            }
            self.buffer.reserve(READ_BYTES);
            let reading = self.socket.read_buf(&mut self.buffer);
            match timeout(self.wire.heartbeat * 2, reading).await {
                Ok(Ok(0)) => return error::lost(IoError::from(IoKind::UnexpectedEof)),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return error::lost(error),
                Err(_) => return error::late("heartbeats"),
            }
            if let Err(error) = self.wire.check() {
                return error;
            }
        }
    }

    fn take(&mut self, frame: Frame) -> Result<()> {
        let channel = frame.channel;
        match frame.kind {
            FRAME_METHOD => {
                let mut fields = Fields(frame.payload);
                let method = fields.number().ok_or_else(|| error::odd("a method"))?;
                match channel {
                    0 => self.of_connection(method, &mut fields),
                    _ => self.of_channel(channel, method, fields),
                }
            }
            FRAME_HEADER => self.header(channel, frame.payload),
            FRAME_BODY => self.body(channel, &frame.payload),
            FRAME_HEARTBEAT => Ok(()),
            _ => Err(error::odd("a frame's type")),
        }
    }

    fn of_connection(&mut self, method: u32, fields: &mut Fields) -> Result<()> {
        match method {
            method::CONNECTION_CLOSE => {
                let refused = refusal(fields);
                // It goes out if the socket takes it at once; the server closes the socket anyway.
                let mut out = BytesMut::new();
                codec::method(&mut out, 0, method::CONNECTION_CLOSE_OK, |_| {});
                drop(self.socket.as_ref().try_write(&out));
                Err(refused)
            }
            method::CONNECTION_CLOSE_OK => Err(error::closed()),
            method::CONNECTION_BLOCKED => {
                let reason = fields.short().unwrap_or_default();
                let reason = String::from_utf8_lossy(&reason).into_owned();
                *self.wire.blocked.lock() = Some(reason);
                Ok(())
            }
            method::CONNECTION_UNBLOCKED => {
                *self.wire.blocked.lock() = None;
                Ok(())
            }
            _ => Err(error::odd("a method of the connection")),
        }
    }

    fn of_channel(&mut self, channel: u16, method: u32, mut fields: Fields) -> Result<()> {
        match method {
            method::BASIC_DELIVER => {
                let delivered =
                    delivered(&mut fields).ok_or_else(|| error::odd("basic.deliver"))?;
                self.begin(channel, Some(delivered));
            }
            method::BASIC_RETURN => self.begin(channel, None),
            method::BASIC_ACK | method::BASIC_NACK => {
                let tag = fields.long_number();
                let (Some(tag), Some(bits)) = (tag, fields.byte()) else {
                    return Err(error::odd("a confirmation"));
                };
                let channels = self.wire.channels.lock();
                let slot = channels.open.get(&channel);
                let events = slot.and_then(|slot| slot.events.clone());
                drop(channels);
                if let Some(events) = events {
                    events.confirmed(tag, bits & 1 != 0, method == method::BASIC_ACK);
                }
            }
            method::BASIC_CANCEL => {
                let mut channels = self.wire.channels.lock();
                let slot = channels.open.get_mut(&channel);
                let events = slot.and_then(|slot| slot.events.take());
                drop(channels);
                if let Some(events) = events {
                    let message = "the server ended a consumer: its queue was deleted or moved";
                    events.ended(Error::unavailable("rabbitmq_cancelled", message));
                }
            }
            method::CHANNEL_CLOSE => {
                let refused = refusal(&mut fields);
                self.messages.remove(&channel);
                let mut channels = self.wire.channels.lock();
                let slot = channels.open.remove(&channel);
                // Nothing may be sent on it after this, so nobody may look and send meanwhile.
                self.wire.send(|out| {
                    codec::method(out, channel, method::CHANNEL_CLOSE_OK, |_| {});
                });
                drop(channels);
                if let Some(slot) = slot {
                    slot.end(&refused);
                }
            }
            method::CHANNEL_CLOSE_OK => {
                self.messages.remove(&channel);
                let mut channels = self.wire.channels.lock();
                let Some(slot) = channels.open.remove(&channel) else {
                    return Ok(());
                };
                if slot.orphaned {
                    channels.used.remove(&channel);
                }
                drop(channels);
                for reply in slot.replies {
                    // Who no longer waits need not know.
                    drop(reply.send(Ok(Bytes::new())));
                }
            }
            _ => {
                let mut channels = self.wire.channels.lock();
                let slot = channels.open.get_mut(&channel);
                let reply = slot.and_then(Slot::next_reply);
                drop(channels);
                if let Some(reply) = reply {
                    drop(reply.send(Ok(fields.0)));
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, channel: u16, delivered: Option<Delivered>) {
        let partial = Partial {
            delivered,
            body: BytesMut::new(),
            left: 0,
        };
        self.messages.insert(channel, partial);
    }

    fn header(&mut self, channel: u16, payload: Bytes) -> Result<()> {
        let mut fields = Fields(payload);
        let size = fields.number().and_then(|_| fields.long_number());
        let size = size.and_then(|size| usize::try_from(size).ok());
        let (Some(size), Some(partial)) = (size, self.messages.get_mut(&channel)) else {
            return Err(error::odd("a message's header"));
        };
        partial.left = size;
        if let Some(delivered) = &mut partial.delivered {
            delivered.properties = fields.0;
            partial.body.reserve(size.min(BODY_RESERVED_MAX));
        }
        self.end(channel);
        Ok(())
    }

    fn body(&mut self, channel: u16, payload: &[u8]) -> Result<()> {
        let partial = self.messages.get_mut(&channel);
        let partial = partial.filter(|partial| partial.left >= payload.len());
        let partial = partial.ok_or_else(|| error::odd("a message's body"))?;
        partial.left -= payload.remaining();
        if partial.delivered.is_some() {
            partial.body.extend_from_slice(payload);
        }
        self.end(channel);
        Ok(())
    }

    /// Gives a message to its channel, if it has come whole.
    fn end(&mut self, channel: u16) {
        if self
            .messages
            .get(&channel)
            .is_none_or(|partial| partial.left > 0)
        {
            return;
        }
        let Some(partial) = self.messages.remove(&channel) else {
            return;
        };
        let channels = self.wire.channels.lock();
        let slot = channels.open.get(&channel);
        let events = slot.and_then(|slot| slot.events.clone());
        drop(channels);
        if let (Some(events), Some(mut delivered)) = (events, partial.delivered) {
            delivered.body = partial.body.freeze();
            events.delivered(delivered);
        }
    }
}

fn delivered(fields: &mut Fields) -> Option<Delivered> {
    fields.short()?;
    let tag = fields.long_number()?;
    let redelivered = fields.byte()? & 1 != 0;
    fields.short()?;
    Some(Delivered {
        tag,
        redelivered,
        routing_key: fields.short()?,
        properties: Bytes::new(),
        body: Bytes::new(),
    })
}

/// What the server says when it closes something.
pub(super) fn refusal(fields: &mut Fields) -> Error {
    let code = fields.short_number().unwrap_or_default();
    let text = fields.short().unwrap_or_default();
    error::refused(code, &String::from_utf8_lossy(&text))
}

/// What a frame can hold.
pub(super) fn payload_max(frame_max: usize) -> usize {
    frame_max - FRAME_OVERHEAD
}
