//! Topics on the server: an exchange, a queue that tells their shape, and queues for their groups.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use trunkline_bus::TopicSpec;
use trunkline_core::{Error, ErrorKind, Result};

use crate::amqp::{Channel, Connection, Events, Properties, Queue, Value, no_arguments};
use crate::error;
use crate::publish::Confirms;

/// The longest name of an exchange or a queue.
const NAME_BYTES_MAX: usize = 255;
/// How many topics are declared side by side, each on a channel of its own. The server makes one thing after the other
/// for a channel and waits for its disk each time; what several channels ask for shares the wait.
const DECLARED_AT_ONCE: usize = 8;
/// How many questions about a group's queues are sent ahead of their answers.
const ASKED_AT_ONCE: usize = 64;
/// The pause before a topic is looked at again whose first declaration has not ended.
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

    /// Makes topics and the queues of their groups exist. Others may do the same at once, and any of them may die
    /// half-way: everything is declared and bound each time, for what is there costs the server no write.
    pub(crate) async fn declare(&self, connection: &Connection, specs: &[TopicSpec]) -> Result<()> {
        for spec in specs {
            spec.check()?;
            for group in &spec.groups {
                self.check_group(group, &spec.name, spec.partitions)?;
            }
        }
        let all: Vec<_> = specs
            .iter()
            .map(|spec| self.declare_one(connection, spec))
            .collect();
        let declared = stream::iter(all).buffered(DECLARED_AT_ONCE);
        declared.try_collect().await
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
        let declared = self.declare_whole(connection, spec).await;
        declared.map_err(|error| error.with("topic", &spec.name))
    }

    async fn declare_whole(&self, connection: &Connection, spec: &TopicSpec) -> Result<()> {
        let confirms = Arc::new(Confirms::default());
        let channel = connection.channel(confirms.clone()).await?;
        let name = self.exchange(&spec.name);
        let marker = self.marker(&spec.name, spec.partitions);
        let arguments = no_arguments();
        // The server works in this order and stops at the first that it refuses: a topic of another shape stays as it is.
        let (exchange, shape, groups) = futures::join!(
            channel.exchange(&name, "topic", true, &arguments),
            channel.queue(&marker),
            self.declare_groups(&channel, spec),
        );
        exchange?;
        let shape = shape.map_err(|error| match error.kind() {
            ErrorKind::Conflict => {
                let message = "the topic exists with another number of partitions";
                Error::conflict("topic_conflict", message)
                    .with("partitions", spec.partitions)
                    .with_source(error)
            }
            _ => error,
        })?;
        groups?;
        // Last: who finds the topic without having declared it finds the queues of its groups, too.
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
        let mut known = self.known.lock();
        known.insert(spec.name.clone(), spec.partitions);
        Ok(())
    }

    async fn declare_groups(&self, channel: &Channel, spec: &TopicSpec) -> Result<()> {
        for group in &spec.groups {
            self.declare_group(channel, group, &spec.name, spec.partitions)
                .await?;
        }
        Ok(())
    }

    /// Makes a group's queues exist; says how many consumers they have.
    pub(crate) async fn declare_group(
        &self,
        channel: &Channel,
        group: &str,
        topic: &str,
        partitions: u16,
    ) -> Result<u32> {
        self.check_group(group, topic, partitions)?;
        let exchange = self.exchange(topic);
        let made = (0..partitions).map(async |partition| {
            let queue = Queue {
                name: self.queue(group, topic, partition),
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
            let binding = channel.bind(&queue.name, &exchange, &key, &arguments);
            let (declared, bound) = futures::join!(declaring, binding);
            let declared = declared?;
            bound.map(|()| declared.consumers)
        });
        let made = stream::iter(made).buffered(ASKED_AT_ONCE / 2);
        let add = async |sum, consumers| Ok(sum + consumers);
        made.try_fold(0, add).await
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

    /// How many partitions a topic has. Waits no longer than `patience` while another makes it.
    ///
    /// # Errors
    /// `NotFound` if it was not declared.
    pub(crate) async fn find(
        &self,
        connection: &Connection,
        topic: &ByteString,
        patience: Duration,
    ) -> Result<u16> {
        if let Some(partitions) = self.known(topic) {
            return Ok(partitions);
        }
        if self.shape(topic).len() > NAME_BYTES_MAX {
            return Err(error::not_declared(topic));
        }
        let begun = Instant::now();
        loop {
            if let Some(partitions) = self.look(connection, topic).await? {
                self.known.lock().insert(topic.clone(), partitions);
                return Ok(partitions);
            }
            if begun.elapsed() >= patience {
                let message = "the topic's declaration was begun and not ended; declare it again";
                let error = Error::unavailable("topic_half_declared", message);
                return Err(error.with("topic", topic));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// None while its declaration has not ended.
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
