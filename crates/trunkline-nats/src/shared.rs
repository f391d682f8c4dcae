//! What all clones of a transport share.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use async_nats::Subject;
use async_nats::jetstream::stream::{self, RetentionPolicy};
use bytestring::ByteString;
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;
use trunkline_bus::{TopicSpec, partition_of};
use trunkline_core::{Env, Error, Result};

use crate::config::NatsConfig;
use crate::error;
use crate::link::{Link, Links};
use crate::member::Member;
use crate::names::Names;

/// A topic that is known to exist.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: ByteString,
    pub(crate) stream: String,
    /// The subjects of its partitions.
    pub(crate) subjects: Vec<Subject>,
}

impl Topic {
    pub(crate) fn new(names: &Names, name: &ByteString, partitions: u16) -> Self {
        let subjects = (0..partitions).map(|number| names.partition(name, number).into());
        Self {
            name: name.clone(),
            stream: names.stream(name),
            subjects: subjects.collect(),
        }
    }

    pub(crate) fn partitions(&self) -> u16 {
        u16::try_from(self.subjects.len()).unwrap_or(u16::MAX)
    }

    /// The subject that events of a key take.
    pub(crate) fn subject(&self, key: &str) -> Option<&Subject> {
        self.subjects
            .get(usize::from(partition_of(key, self.partitions())))
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Arc<NatsConfig>,
    pub(crate) env: Env,
    pub(crate) names: Names,
    pub(crate) links: Links,
    topics: Mutex<HashMap<ByteString, Arc<Topic>>>,
    /// What was declared by this process: topics with their limits, and their groups.
    pub(crate) declared: Mutex<Declared>,
    members: Mutex<Vec<Weak<Member>>>,
    pub(crate) tasks: Mutex<JoinSet<()>>,
}

#[derive(Debug, Default)]
pub(crate) struct Declared {
    pub(crate) topics: HashMap<ByteString, TopicSpec>,
    pub(crate) groups: HashSet<(ByteString, ByteString)>,
}

impl Shared {
    pub(crate) async fn open(config: NatsConfig, env: Env) -> Result<Self> {
        config.check()?;
        Ok(Self {
            names: Names::new(config.prefix.clone()),
            links: Links::open(config.clone()).await?,
            config: Arc::new(config),
            env,
            topics: Mutex::default(),
            declared: Mutex::default(),
            members: Mutex::default(),
            tasks: Mutex::default(),
        })
    }

    /// A topic, looked up at the server the first time.
    pub(crate) async fn topic(&self, link: &Link, name: &ByteString) -> Result<Arc<Topic>> {
        if let Some(topic) = self.known(name) {
            return Ok(topic);
        }
        let stream = self.names.stream(name);
        let spec = TopicSpec {
            name: name.clone(),
            partitions: 1,
            retention: None,
            retention_bytes: None,
            groups: Vec::new(),
        };
        if spec.check().is_err() {
            return Err(error::undeclared(name, &stream));
        }
        let Some(info) = stream_info(link, &stream).await? else {
            return Err(error::undeclared(name, &stream));
        };
        let partitions = partitions(&self.names, name, &info.config).ok_or_else(|| {
            foreign(name, &info.config).with("found", info.config.subjects.join(" "))
        })?;
        Ok(self.learn(name, partitions))
    }

    /// A topic that was looked up before.
    pub(crate) fn known(&self, name: &ByteString) -> Option<Arc<Topic>> {
        self.topics.lock().get(name).cloned()
    }

    pub(crate) fn learn(&self, name: &ByteString, partitions: u16) -> Arc<Topic> {
        let topic = Arc::new(Topic::new(&self.names, name, partitions));
        self.topics.lock().insert(name.clone(), topic.clone());
        topic
    }

    /// The topic may not exist any more.
    pub(crate) fn forget(&self, name: &ByteString) {
        self.topics.lock().remove(name);
        let mut declared = self.declared.lock();
        declared.topics.remove(name);
        declared.groups.retain(|(topic, _)| topic != name);
    }

    /// Keeps a member, so that closing the transport ends it, and runs its task.
    pub(crate) fn adopt(
        &self,
        member: &Arc<Member>,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let mut members = self.members.lock();
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(member));
        drop(members);
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Ends all members; says which tasks are to be waited for.
    pub(crate) fn end_members(&self) -> JoinSet<()> {
        for member in self.members.lock().drain(..) {
            if let Some(member) = member.upgrade() {
                member.close();
            }
        }
        std::mem::take(&mut *self.tasks.lock())
    }
}

pub(crate) async fn stream_info(link: &Link, stream: &str) -> Result<Option<stream::Info>> {
    let subject = format!("STREAM.INFO.{stream}");
    match link.ask("read a stream", subject, &json!({})).await? {
        Ok(info) => Ok(Some(info)),
        Err(refused) if refused.code() == 404 => Ok(None),
        Err(refused) => Err(error::refused("read a stream", refused)),
    }
}

/// How many partitions a stream has, if it is a topic's.
pub(crate) fn partitions(names: &Names, topic: &str, config: &stream::Config) -> Option<u16> {
    let count = u16::try_from(config.subjects.len()).ok()?;
    let expected: HashSet<String> = (0..count).map(|n| names.partition(topic, n)).collect();
    let ours = config
        .subjects
        .iter()
        .all(|subject| expected.contains(subject));
    (ours && count > 0 && config.retention == RetentionPolicy::Limits).then_some(count)
}

/// A stream of the topic's name is something else.
pub(crate) fn foreign(topic: &str, config: &stream::Config) -> Error {
    let message = "the stream of the topic is not what Trunkline makes: expected one subject for each \
                   partition, and retention by limits";
    Error::conflict("topic_conflict", message)
        .with("topic", topic)
        .with("stream", &config.name)
}
