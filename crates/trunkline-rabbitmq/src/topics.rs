//! Topics on the server: an exchange, a queue that tells their shape, and queues for their groups.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use futures::future::{join_all, try_join_all};
use parking_lot::Mutex;
use tokio::time::sleep;
use trunkline_bus::TopicSpec;
use trunkline_core::{Error, ErrorKind, Result};

use crate::amqp::{Channel, Connection, Events, Properties, Queue, Value, no_arguments};
use crate::error;
use crate::publish::Confirms;

/// The longest name of an exchange or a queue.
const NAME_BYTES_MAX: usize = 255;
/// How often a shape is looked at that somebody else is just writing.
const LOOKS_MAX: u32 = 20;
/// The pause before the next look.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// The topics that are known to exist.
#[derive(Debug)]
pub(crate) struct Topics {
    prefix: ByteString,
    known: Mutex<HashMap<ByteString, u16>>,
}

/// Events of a channel on which every answer is awaited.
pub(crate) struct Quiet;

impl Events for Quiet {
    fn ended(&self, _: Error) {}
}

impl Topics {
    pub(crate) fn new(prefix: ByteString) -> Self {
        Self {
            prefix,
            known: Mutex::default(),
        }
    }

    pub(crate) fn exchange(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// The queue that keeps a partition for a group.
    pub(crate) fn queue(&self, group: &str, topic: &str, partition: u16) -> String {
        format!("{}{group}/{topic}/{partition}", self.prefix)
    }

    fn shape(&self, topic: &str) -> String {
        format!("{}{topic}/shape", self.prefix)
    }

    /// How many partitions a topic has, if that is known.
    pub(crate) fn known(&self, topic: &str) -> Option<u16> {
        self.known.lock().get(topic).copied()
    }

    /// The server says that something is not there: everything has to be looked up again.
    pub(crate) fn forget(&self) {
        self.known.lock().clear();
    }

    /// Makes topics and the queues of their groups exist.
    pub(crate) async fn declare(&self, connection: &Connection, specs: &[TopicSpec]) -> Result<()> {
        for spec in specs {
            spec.check()?;
            for group in &spec.groups {
                self.check_group(group, &spec.name, spec.partitions)?;
            }
        }
        for spec in specs {
            let declared = self.declare_one(connection, spec).await;
            declared.map_err(|error| error.with("topic", &spec.name))?;
        }
        Ok(())
    }

    /// Whether a group's queues can be named.
    pub(crate) fn check_group(&self, group: &str, topic: &str, partitions: u16) -> Result<()> {
        let longest = self.queue(group, topic, partitions).len();
        if group.is_empty() || longest > NAME_BYTES_MAX {
            let message = "expected a group's name of at least 1 byte, and with the prefix and the topic's at most 247";
            return Err(Error::invalid("group_name_invalid", message).with("group", group));
        }
        Ok(())
    }

    async fn declare_one(&self, connection: &Connection, spec: &TopicSpec) -> Result<()> {
        let confirms = Arc::new(Confirms::default());
        let channel = connection.channel(confirms.clone()).await?;
        let exchange = self.exchange(&spec.name);
        channel
            .exchange(&exchange, "topic", true, &no_arguments())
            .await?;
        let declared = channel
            .queue(&self.marker(&spec.name, spec.partitions))
            .await;
        let shape = declared.map_err(|error| match error.kind() {
            ErrorKind::Conflict => {
                let message = "the topic exists with another number of partitions";
                Error::conflict("topic_conflict", message)
                    .with("partitions", spec.partitions)
                    .with_source(error)
            }
            _ => error,
        })?;
        let missing = u32::from(spec.partitions).saturating_sub(shape.ready);
        if missing > 0 {
            channel.confirm().await?;
            for _ in 0..missing {
                let properties = Properties::default();
                channel.publish("", &shape.name, &properties, b"")?;
            }
            // What is refused is refused because another has written it meanwhile.
            confirms.wait(missing.into(), connection.wire.limit).await?;
        }
        let queues = spec.groups.iter();
        try_join_all(
            queues.map(|group| self.declare_group(&channel, group, &spec.name, spec.partitions)),
        )
        .await?;
        let mut known = self.known.lock();
        known.insert(spec.name.clone(), spec.partitions);
        Ok(())
    }

    /// Makes a group's queues exist; says how many messages and how many consumers they have.
    pub(crate) async fn declare_group(
        &self,
        channel: &Channel,
        group: &str,
        topic: &str,
        partitions: u16,
    ) -> Result<u32> {
        self.check_group(group, topic, partitions)?;
        let exchange = self.exchange(topic);
        let names: Vec<_> = (0..partitions)
            .map(|partition| (partition, self.queue(group, topic, partition)))
            .collect();
        let made = names.iter().map(async |(partition, name)| {
            let queue = Queue {
                name: name.clone(),
                durable: true,
                arguments: vec![
                    ("x-queue-type".to_owned(), Value::text("classic")),
                    ("x-single-active-consumer".to_owned(), Value::Flag(true)),
                ],
                ..Queue::default()
            };
            let key = format!("{partition}.#");
            let arguments = no_arguments();
            // Both are sent before either is awaited.
            let declaring = channel.queue(&queue);
            let binding = channel.bind(name, &exchange, &key, &arguments);
            let (declared, bound) = futures::join!(declaring, binding);
            let declared = declared?;
            bound.map(|()| declared.consumers)
        });
        // All answers are awaited: the first that failed closed the channel for all.
        let made: Result<Vec<u32>> = join_all(made).await.into_iter().collect();
        Ok(made?.into_iter().sum())
    }

    /// The queue that tells how many partitions a topic has: it is full with as many messages. A queue's arguments can
    /// be compared, but not be read; its length can.
    fn marker(&self, topic: &str, partitions: u16) -> Queue {
        Queue {
            name: self.shape(topic),
            durable: true,
            arguments: vec![
                ("x-queue-type".to_owned(), Value::text("classic")),
                ("x-max-length".to_owned(), Value::Integer(partitions.into())),
                ("x-overflow".to_owned(), Value::text("reject-publish")),
            ],
            ..Queue::default()
        }
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// `NotFound` if it was not declared.
    pub(crate) async fn find(&self, connection: &Connection, topic: &ByteString) -> Result<u16> {
        if let Some(partitions) = self.known(topic) {
            return Ok(partitions);
        }
        if self.shape(topic).len() > NAME_BYTES_MAX {
            return Err(error::not_declared(topic));
        }
        for _ in 0..LOOKS_MAX {
            if let Some(partitions) = self.look(connection, topic).await? {
                self.known.lock().insert(topic.clone(), partitions);
                return Ok(partitions);
            }
            sleep(LOOK_AGAIN).await;
        }
        let message = "the topic's declaration was begun and not ended; declare it again";
        Err(Error::unavailable("topic_half_declared", message).with("topic", topic))
    }

    /// None while somebody else is writing it.
    async fn look(&self, connection: &Connection, topic: &str) -> Result<Option<u16>> {
        // What is not there closes the channel.
        let channel = connection.channel(Arc::new(Quiet)).await?;
        let exchange = self.exchange(topic);
        let shape = self.shape(topic);
        let (exists, marker) =
            futures::join!(channel.exchange_exists(&exchange), channel.look(&shape));
        let missing = |error: Error| match error.kind() {
            ErrorKind::NotFound => error::not_declared(topic).with_source(error),
            _ => error,
        };
        exists.map_err(missing)?;
        let marker = marker.map_err(missing)?;
        let partitions = u16::try_from(marker.ready).unwrap_or(0);
        if partitions == 0 {
            return Ok(None);
        }
        // It is full only if its bound is the same.
        match channel.queue(&self.marker(topic, partitions)).await {
            Ok(_) => Ok(Some(partitions)),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }
}
