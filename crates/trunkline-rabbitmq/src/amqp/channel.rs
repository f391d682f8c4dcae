//! A channel, and what can be asked on it.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::oneshot;
use tokio::time::timeout;
use trunkline_core::{Error, ErrorKind, Result};

use super::codec::{
    self, FRAME_BODY, FRAME_HEADER, FRAME_OVERHEAD, Fields, Value, put_short, put_table,
};
use super::connection::{Events, Slot, Wire};
use super::{Properties, io, method};
use crate::error;

/// An open channel; dropping it closes it.
pub(crate) struct Channel {
    wire: Arc<Wire>,
    id: u16,
}

/// Arguments of something that is declared.
pub(crate) type Arguments = Vec<(String, Value)>;

/// No arguments.
pub(crate) fn no_arguments() -> Arguments {
    Arguments::new()
}

/// A queue as it is declared.
#[derive(Debug, Default, Clone)]
pub(crate) struct Queue {
    /// Empty for one that the server names.
    pub(crate) name: String,
    /// It is only looked for.
    pub(crate) passive: bool,
    pub(crate) durable: bool,
    /// It is this connection's alone, and goes with it.
    pub(crate) exclusive: bool,
    pub(crate) auto_delete: bool,
    pub(crate) arguments: Arguments,
}

/// What the server says of a queue.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) name: String,
    /// Messages that wait and are out with nobody.
    pub(crate) ready: u32,
    pub(crate) consumers: u32,
}

/// How a queue is read.
#[derive(Debug)]
pub(crate) struct Consume<'a> {
    pub(crate) queue: &'a str,
    pub(crate) prefetch: u16,
}

impl Channel {
    pub(super) async fn open(wire: &Arc<Wire>, events: Arc<dyn Events>) -> Result<Self> {
        let id = {
            let mut channels = wire.channels.lock();
            let free = (1..=channels.max).find(|id| !channels.used.contains(id));
            let Some(id) = free else {
                let message = "the connection has no channel left; a subscription takes one for each partition";
                return Err(Error::new(
                    ErrorKind::Overloaded,
                    "rabbitmq_channels",
                    message,
                ));
            };
            let slot = Slot {
                events: Some(events),
                orphaned: false,
                replies: Default::default(),
                answered: 0,
            };
            channels.used.insert(id);
            channels.open.insert(id, slot);
            id
        };
        let channel = Self {
            wire: wire.clone(),
            id,
        };
        // Ended meanwhile, perhaps before its slot was there to be told.
        wire.check()?;
        channel
            .call("opening a channel", method::CHANNEL_OPEN, |out| {
                put_short(out, "");
            })
            .await?;
        Ok(channel)
    }

    /// Asks and waits for the answer, as long as one comes on this channel within each limit of the connection: many may
    /// have been asked before, and a slow server answers them in turn. What is asked first is sent first, also when the
    /// answers are awaited together.
    async fn call(
        &self,
        doing: &'static str,
        method: u32,
        fill: impl FnOnce(&mut BytesMut),
    ) -> Result<Bytes> {
        self.wire.check()?;
        let (reply, mut answer) = oneshot::channel();
        let mut answered = {
            let mut channels = self.wire.channels.lock();
            let slot = channels.open.get_mut(&self.id);
            let slot = slot.ok_or_else(|| Error::unavailable("rabbitmq_channel_closed", doing))?;
            slot.replies.push_back(reply);
            self.wire
                .send(|out| codec::method(out, self.id, method, fill));
            slot.answered
        };
        loop {
            match timeout(self.wire.limit, &mut answer).await {
                Ok(Ok(answer)) => return answer.map_err(|error| error.with("doing", doing)),
                Ok(Err(_)) => return Err(Error::unavailable("rabbitmq_channel_closed", doing)),
                Err(_) => {}
            }
            let before = std::mem::replace(&mut answered, self.answered());
            if answered == before {
                return Err(error::late(doing));
            }
        }
    }

    /// How many answers have come.
    fn answered(&self) -> u64 {
        let channels = self.wire.channels.lock();
        let slot = channels.open.get(&self.id);
        slot.map_or(0, |slot| slot.answered)
    }

    /// Declares an exchange.
    pub(crate) async fn exchange(
        &self,
        name: &str,
        kind: &str,
        durable: bool,
        arguments: &Arguments,
    ) -> Result<()> {
        self.call("declaring an exchange", method::EXCHANGE_DECLARE, |out| {
            out.put_u16(0);
            put_short(out, name);
            put_short(out, kind);
            out.put_u8(if durable { 0b10 } else { 0 });
            put_table(out, pairs(arguments));
        })
        .await
        .map(drop)
    }

    /// Looks whether an exchange exists.
    pub(crate) async fn exchange_exists(&self, name: &str) -> Result<()> {
        self.call("looking for an exchange", method::EXCHANGE_DECLARE, |out| {
            out.put_u16(0);
            put_short(out, name);
            put_short(out, "topic");
            out.put_u8(0b1);
            put_table(out, []);
        })
        .await
        .map(drop)
    }

    /// Declares a queue, or looks for it.
    pub(crate) async fn queue(&self, queue: &Queue) -> Result<Declared> {
        let answer = self
            .call("declaring a queue", method::QUEUE_DECLARE, |out| {
                out.put_u16(0);
                put_short(out, &queue.name);
                let bits = [
                    queue.passive,
                    queue.durable,
                    queue.exclusive,
                    queue.auto_delete,
                ];
                let bits = bits.iter().zip(0..).map(|(set, bit)| u8::from(*set) << bit);
                out.put_u8(bits.sum());
                put_table(out, pairs(&queue.arguments));
            })
            .await?;
        let mut fields = Fields(answer);
        let declared = (|| {
            Some(Declared {
                name: String::from_utf8(fields.short()?.to_vec()).ok()?,
                ready: fields.number()?,
                consumers: fields.number()?,
            })
        })();
        declared.ok_or_else(|| error::odd("queue.declare-ok"))
    }

    /// Looks for a queue.
    pub(crate) async fn look(&self, name: &str) -> Result<Declared> {
        let queue = Queue {
            name: name.to_owned(),
            passive: true,
            ..Queue::default()
        };
        self.queue(&queue).await
    }

    /// Binds a queue to an exchange.
    pub(crate) async fn bind(
        &self,
        queue: &str,
        exchange: &str,
        key: &str,
        arguments: &Arguments,
    ) -> Result<()> {
        self.call("binding a queue", method::QUEUE_BIND, |out| {
            out.put_u16(0);
            put_short(out, queue);
            put_short(out, exchange);
            put_short(out, key);
            out.put_u8(0);
            put_table(out, pairs(arguments));
        })
        .await
        .map(drop)
    }

    /// Drops what waits in a queue.
    pub(crate) async fn purge(&self, queue: &str) -> Result<()> {
        self.call("emptying a queue", method::QUEUE_PURGE, |out| {
            out.put_u16(0);
            put_short(out, queue);
            out.put_u8(0);
        })
        .await
        .map(drop)
    }

    /// Starts to read a queue.
    pub(crate) async fn consume(&self, consume: Consume<'_>) -> Result<()> {
        let prefetch = self.qos(consume.prefetch);
        let reading = self.call("reading a queue", method::BASIC_CONSUME, |out| {
            out.put_u16(0);
            put_short(out, consume.queue);
            put_short(out, "");
            out.put_u8(0);
            put_table(out, []);
        });
        // Both are sent before either is awaited.
        let (prefetch, reading) = futures::join!(prefetch, reading);
        prefetch?;
        reading.map(drop)
    }

    /// Bounds what is out. Its answer says that everything sent before on this channel has been worked off.
    pub(crate) async fn qos(&self, prefetch: u16) -> Result<()> {
        self.call("setting the prefetch", method::BASIC_QOS, |out| {
            out.put_u32(0);
            out.put_u16(prefetch);
            out.put_u8(0);
        })
        .await
        .map(drop)
    }

    /// Has the server confirm what is published.
    pub(crate) async fn confirm(&self) -> Result<()> {
        self.call("asking for confirmations", method::CONFIRM_SELECT, |out| {
            out.put_u8(0);
        })
        .await
        .map(drop)
    }

    /// Acknowledges a delivery, or all up to it.
    pub(crate) fn ack(&self, tag: u64, multiple: bool) {
        self.send(|out| {
            codec::method(out, self.id, method::BASIC_ACK, |out| {
                out.put_u64(tag);
                out.put_u8(u8::from(multiple));
            });
        });
    }

    /// Publishes a message. It is sent some time; only its confirmation says that it has come.
    ///
    /// # Errors
    /// `TooLarge` when its properties don't fit a frame.
    pub(crate) fn publish(
        &self,
        exchange: &str,
        key: &str,
        properties: &Properties<'_>,
        body: &[u8],
    ) -> Result<()> {
        let max = io::payload_max(self.wire.frame_max);
        let mut result = Ok(());
        let sent = self.send(|out| {
            let begin = out.len();
            codec::method(out, self.id, method::BASIC_PUBLISH, |out| {
                out.put_u16(0);
                put_short(out, exchange);
                put_short(out, key);
                out.put_u8(0);
            });
            let header = out.len();
            codec::frame(out, FRAME_HEADER, self.id, |out| {
                out.put_u16(60);
                out.put_u16(0);
                out.put_u64(body.len() as u64);
                properties.write(out);
            });
            if out.len() - header > max + FRAME_OVERHEAD {
                out.truncate(begin);
                let message = "the event's attributes are larger than a frame of AMQP";
                let error = Error::new(ErrorKind::TooLarge, "rabbitmq_headers_too_large", message);
                result = Err(error.with("bytes_max", max));
                return;
            }
            for part in body.chunks(max) {
                codec::frame(out, FRAME_BODY, self.id, |out| out.put_slice(part));
            }
        });
        if !sent {
            self.wire.check()?;
            return Err(Error::unavailable("rabbitmq_channel_closed", "publishing"));
        }
        result
    }

    /// Sends something unless the channel is closed: then the server would end the whole connection.
    fn send(&self, fill: impl FnOnce(&mut BytesMut)) -> bool {
        let channels = self.wire.channels.lock();
        let is_open = channels.open.contains_key(&self.id);
        if is_open {
            self.wire.send(fill);
        }
        is_open
    }

    /// Whether it is open.
    pub(crate) fn is_open(&self) -> bool {
        self.wire.channels.lock().open.contains_key(&self.id)
    }

    /// Waits until there is room for more to be published.
    pub(crate) async fn room(&self) -> Result<()> {
        self.wire.room().await
    }

    /// Closes it: what was out on it is back in its queue when this returns.
    pub(crate) async fn close(&self) -> Result<()> {
        self.be_silent();
        self.call("closing a channel", method::CHANNEL_CLOSE, close)
            .await
            .map(drop)
    }

    fn be_silent(&self) {
        if let Some(slot) = self.wire.channels.lock().open.get_mut(&self.id) {
            slot.events = None;
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let mut channels = self.wire.channels.lock();
        if let Some(slot) = channels.open.get_mut(&self.id) {
            // Its id is free when the server has said that it is closed.
            slot.events = None;
            slot.orphaned = true;
            let wire = &self.wire;
            wire.send(|out| codec::method(out, self.id, method::CHANNEL_CLOSE, close));
        } else {
            channels.used.remove(&self.id);
        }
    }
}

fn close(out: &mut BytesMut) {
    out.put_u16(200);
    put_short(out, "done");
    out.put_u32(0);
}

fn pairs(arguments: &Arguments) -> impl Iterator<Item = (&str, &Value)> {
    arguments.iter().map(|(name, value)| (&**name, value))
}

#[cfg(test)]
mod tests;
