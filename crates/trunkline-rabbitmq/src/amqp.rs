//! AMQP 0.9.1 as RabbitMQ speaks it: as much as the transport uses, and no more.
//!
//! Everything that is to be sent is written into one buffer, which a task hands to the socket whole; what comes is given
//! to a channel's [`Events`] by the task that reads it. Nothing is queued without a bound: publishers wait for room in
//! the buffer, and the prefetch bounds what comes.

mod channel;
mod codec;
mod connection;
mod handshake;
mod io;
mod properties;

pub(crate) use self::channel::{Channel, Consume, Queue, no_arguments};
pub(crate) use self::codec::Value;
pub(crate) use self::connection::{Connection, Delivered, Events};
pub(crate) use self::properties::{Properties, read_headers};

/// A method: its class in the upper half, its number in the lower.
pub(crate) mod method {
    macro_rules! methods {
        ($($name:ident = $class:literal, $number:literal;)*) => {
            $(pub(crate) const $name: u32 = $class << 16 | $number;)*
        };
    }
    methods! {
        CONNECTION_START = 10, 10; CONNECTION_START_OK = 10, 11;
        CONNECTION_TUNE = 10, 30; CONNECTION_TUNE_OK = 10, 31;
        CONNECTION_OPEN = 10, 40; CONNECTION_OPEN_OK = 10, 41;
        CONNECTION_CLOSE = 10, 50; CONNECTION_CLOSE_OK = 10, 51;
        CONNECTION_BLOCKED = 10, 60; CONNECTION_UNBLOCKED = 10, 61;
        CHANNEL_OPEN = 20, 10; CHANNEL_CLOSE = 20, 40; CHANNEL_CLOSE_OK = 20, 41;
        EXCHANGE_DECLARE = 40, 10;
        QUEUE_DECLARE = 50, 10; QUEUE_BIND = 50, 20; QUEUE_PURGE = 50, 30;
        BASIC_QOS = 60, 10; BASIC_CONSUME = 60, 20; BASIC_CANCEL = 60, 30; BASIC_PUBLISH = 60, 40;
        BASIC_RETURN = 60, 50; BASIC_DELIVER = 60, 60; BASIC_ACK = 60, 80; BASIC_NACK = 60, 120;
        CONFIRM_SELECT = 85, 10;
    }
}
