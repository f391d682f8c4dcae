//! Topics: declared, and known again by everybody on the server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use parking_lot::Mutex;
use redis::{Cmd, Value};
use trunkline_bus::TopicSpec;
use trunkline_core::{Error, Result};

use crate::config::Mode;
use crate::keys::Keys;
use crate::link::Link;
use crate::{error, script, value};

/// A topic as the server has it.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: ByteString,
    /// The stream of each partition; in Pub/Sub, the one channel.
    pub(crate) places: Vec<ByteString>,
    pub(crate) partitions: u16,
    pub(crate) retention: Option<Duration>,
    pub(crate) retention_bytes: Option<u64>,
}

/// What was declared, on the server and as far as it is known here.
#[derive(Debug)]
pub(crate) struct Topics {
    mode: Mode,
    keys: Keys,
    known: Mutex<HashMap<ByteString, Arc<Topic>>>,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Streams => "streams",
            Self::PubSub => "pubsub",
        }
    }
}

impl Topics {
    pub(crate) fn new(mode: Mode, keys: Keys) -> Self {
        Self {
            mode,
            keys,
            known: Mutex::default(),
        }
    }

    pub(crate) async fn declare(&self, link: &Link, specs: &[TopicSpec]) -> Result<()> {
        for spec in specs {
            spec.check()?;
            let topic = self.topic(
                spec.name.clone(),
                spec.partitions,
                spec.retention,
                spec.retention_bytes,
            );
            let answer = link
                .call(
                    "a topic could not be declared",
                    &self.declaration(spec, &topic),
                )
                .await?;
            outcome(&spec.name, answer)?;
            self.known.lock().insert(spec.name.clone(), Arc::new(topic));
        }
        Ok(())
    }

    fn declaration(&self, spec: &TopicSpec, topic: &Topic) -> Cmd {
        let mut keys = vec![self.keys.topic(&spec.name)];
        if self.mode == Mode::Streams {
            keys.extend(topic.places.iter().cloned());
        }
        let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
        let age = spec
            .retention
            .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let mut cmd = script::eval(script::DECLARE, &keys);
        cmd.arg(self.mode.name())
            .arg(spec.partitions)
            .arg(number(age))
            .arg(number(spec.retention_bytes));
        for group in &spec.groups {
            cmd.arg(&**group);
        }
        cmd
    }

    /// A topic that is known here already.
    pub(crate) fn cached(&self, name: &str) -> Option<Arc<Topic>> {
        self.known.lock().get(name).cloned()
    }

    /// All that are known here.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        self.known.lock().values().cloned().collect()
    }

    /// A topic, looked up on the server if it was not declared here.
    pub(crate) async fn find(&self, link: &Link, name: &ByteString) -> Result<Arc<Topic>> {
        if let Some(topic) = self.cached(name) {
            return Ok(topic);
        }
        let mut cmd = Cmd::new();
        cmd.arg("HMGET").arg(&*self.keys.topic(name)).arg(&[
            "mode",
            "partitions",
            "retention_ms",
            "retention_bytes",
        ]);
        let doing = "a topic could not be looked up";
        let fields =
            value::array(link.call(doing, &cmd).await?).ok_or_else(|| error::odd(doing))?;
        let [mode, partitions, age, bytes] = fields.as_slice() else {
            return Err(error::odd(doing));
        };
        let partitions = value::integer(partitions).and_then(|count| u16::try_from(count).ok());
        let Some(partitions) = partitions.filter(|count| *count > 0) else {
            return Err(error::not_declared(name));
        };
        let mode = value::text(mode.clone()).unwrap_or_default();
        if mode != self.mode.name() {
            return Err(differs(name, "mode", &mode));
        }
        let number = |value| value::integer(value).and_then(|number| u64::try_from(number).ok());
        let age = number(age).map(Duration::from_millis);
        let topic = Arc::new(self.topic(name.clone(), partitions, age, number(bytes)));
        self.known.lock().insert(name.clone(), topic.clone());
        Ok(topic)
    }

    fn topic(
        &self,
        name: ByteString,
        partitions: u16,
        retention: Option<Duration>,
        retention_bytes: Option<u64>,
    ) -> Topic {
        let places = match self.mode {
            Mode::Streams => (0..partitions)
                .map(|partition| self.keys.stream(&name, partition))
                .collect(),
            Mode::PubSub => vec![self.keys.topic(&name)],
        };
        Topic {
            name,
            places,
            partitions,
            retention,
            retention_bytes,
        }
    }
}

/// What the script of a declaration says.
fn outcome(topic: &str, answer: Value) -> Result<()> {
    let parts = value::array(answer).unwrap_or_default();
    let mut parts = parts.into_iter().filter_map(value::text);
    let what = parts.next().unwrap_or_default();
    let mut next = || parts.next().unwrap_or_default();
    match &*what {
        "ok" => Ok(()),
        "mode" => Err(differs(topic, "mode", &next())),
        "partitions" => Err(differs(topic, "partitions", &next())),
        "type" => {
            let message = "a key of the topic is of another type: it is somebody else's";
            Err(Error::conflict("redis_wrong_type", message)
                .with("key", next())
                .with("expected", next())
                .with("found", next()))
        }
        _ => Err(error::odd("a topic could not be declared")),
    }
}

fn differs(topic: &str, what: &'static str, found: &str) -> Error {
    let message = "the topic exists with another shape";
    Error::conflict("topic_differs", message)
        .with("topic", topic)
        .with(what, found)
}
