//! Topics: which there are, and making them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytestring::ByteString;
use parking_lot::{Mutex, RwLock};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{FromClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::Consumer;
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::Notify;
use tokio::time::Instant;
use trunkline_bus::TopicSpec;
use trunkline_core::{Error, Result};

use crate::client::{Client, Faults, Reader, blocking, settings};
use crate::config::KafkaConfig;
use crate::error;

/// How long to wait before looking again whether a new topic is known everywhere.
const KNOWN_PAUSE: Duration = Duration::from_millis(20);

/// A topic of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topic {
    /// Its name in the cluster.
    pub(crate) full: String,
    pub(crate) partitions: i32,
}

/// How a topic is, as far as it concerns us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) partitions: i32,
    pub(crate) replication: usize,
    /// `retention.ms`, -1 for ever.
    pub(crate) retention_ms: i64,
    /// `retention.bytes` of each partition, -1 without bound.
    pub(crate) retention_bytes: i64,
}

/// A topic to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewShape {
    pub(crate) full: String,
    pub(crate) partitions: i32,
    /// None for what the cluster is set to.
    pub(crate) replication: Option<u16>,
    /// None for what the cluster is set to.
    pub(crate) retention_ms: Option<i64>,
    /// None for what the cluster is set to.
    pub(crate) retention_bytes: Option<i64>,
}

/// The topics that are known, and the clients that ask for the others.
pub(crate) struct Topics {
    config: Arc<KafkaConfig>,
    faults: Arc<Faults>,
    known: RwLock<HashMap<ByteString, Arc<Topic>>>,
    declared: Mutex<HashMap<ByteString, TopicSpec>>,
    /// A consumer, because asking as one makes no topic.
    probe: Client,
    admin: OnceLock<Arc<AdminClient<DefaultClientContext>>>,
}

impl Topics {
    pub(crate) fn new(config: Arc<KafkaConfig>, faults: Arc<Faults>) -> Result<Self> {
        let probe = Client::new(&settings(&config), faults.clone(), Arc::new(Notify::new()))?;
        Ok(Self {
            config,
            faults,
            known: RwLock::default(),
            declared: Mutex::default(),
            probe,
            admin: OnceLock::new(),
        })
    }

    pub(crate) fn probe(&self) -> Arc<Reader> {
        self.probe.reader().clone()
    }

    /// Waits until a broker answers.
    pub(crate) async fn connect(&self) -> Result<()> {
        const STEP: Duration = Duration::from_millis(100);
        let (probe, faults) = (self.probe(), self.faults.clone());
        let config = self.config.clone();
        let until = Instant::now() + config.limit;
        blocking(config.limit, "connecting to Kafka", move || {
            loop {
                // Asking for no topic at all is answered by every broker to everybody.
                match probe.client().fetch_metadata(Some("trunkline"), STEP) {
                    Ok(_) => {
                        faults.clear();
                        return Ok(());
                    }
                    Err(_) => drop(probe.poll(Duration::ZERO)),
                }
                if let Some(refused) = faults.refused(&config) {
                    return Err(refused);
                }
                if Instant::now() >= until {
                    return Err(faults.unreachable(&config));
                }
            }
        })
        .await
    }

    /// A topic that exists.
    pub(crate) async fn find(&self, name: &ByteString) -> Result<Arc<Topic>> {
        if let Some(topic) = self.known.read().get(name) {
            return Ok(topic.clone());
        }
        match self.look_up(name).await? {
            Some(topic) => Ok(topic),
            None => Err(error::unknown_topic(name)),
        }
    }

    /// What is known of a topic may be wrong.
    pub(crate) fn forget(&self, name: &ByteString) {
        self.known.write().remove(name);
        self.declared.lock().remove(name);
    }

    async fn look_up(&self, name: &ByteString) -> Result<Option<Arc<Topic>>> {
        let full = self.config.full(name);
        let Some(partitions) = self.partitions(&full).await? else {
            return Ok(None);
        };
        let topic = Arc::new(Topic { full, partitions });
        self.known.write().insert(name.clone(), topic.clone());
        Ok(Some(topic))
    }

    /// How many partitions a topic has; none if there is no such topic, or not all of it yet.
    async fn partitions(&self, full: &str) -> Result<Option<i32>> {
        let metadata = self.metadata(full).await?;
        Ok(metadata.map(|(partitions, _)| partitions))
    }

    /// Partitions and replicas of a topic.
    async fn metadata(&self, full: &str) -> Result<Option<(i32, usize)>> {
        const ASKING: &str = "asking for a topic";
        let (probe, full) = (self.probe(), full.to_owned());
        let (config, faults) = (self.config.clone(), self.faults.clone());
        blocking(config.limit, ASKING, move || {
            let found = probe.client().fetch_metadata(Some(&full), config.limit);
            // Its log and errors are served here, as it has nobody else for that.
            drop(probe.poll(Duration::ZERO));
            let metadata = found.map_err(|found| match found.rdkafka_error_code() {
                Some(Code::BrokerTransportFailure | Code::OperationTimedOut) => {
                    faults.unreachable(&config)
                }
                _ => error::kafka(ASKING, found),
            })?;
            let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == full) else {
                return Ok(None);
            };
            if let Some(found) = topic.error().map(Code::from) {
                return match found {
                    Code::UnknownTopicOrPartition | Code::LeaderNotAvailable => Ok(None),
                    // There can't be such a topic.
                    Code::InvalidTopic => Ok(None),
                    _ => Err(error::of_code(ASKING, found).with("topic", &full)),
                };
            }
            let all = topic.partitions();
            let replicas = all
                .iter()
                .map(|one| one.replicas().len())
                .min()
                .unwrap_or(0);
            let count = i32::try_from(all.len()).unwrap_or(i32::MAX);
            let ready = all.iter().all(|one| one.leader() >= 0);
            Ok((count > 0 && ready).then_some((count, replicas)))
        })
        .await
    }

    /// How many brokers the cluster has.
    pub(crate) async fn brokers(&self) -> Result<usize> {
        const ASKING: &str = "asking for the brokers";
        let (probe, limit) = (self.probe(), self.config.limit);
        blocking(limit, ASKING, move || {
            // Any topic will do: brokers are told with each.
            let metadata = probe.client().fetch_metadata(Some("trunkline"), limit);
            let metadata = metadata.map_err(|failed| error::kafka(ASKING, failed))?;
            Ok(metadata.brokers().len())
        })
        .await
    }

    fn admin(&self) -> Result<Arc<AdminClient<DefaultClientContext>>> {
        if let Some(admin) = self.admin.get() {
            return Ok(admin.clone());
        }
        let mut settings = settings(&self.config);
        // Nobody reads its log, which would pile up.
        settings.set_log_level(RDKafkaLogLevel::Emerg);
        let admin = AdminClient::from_config(&settings);
        let admin = Arc::new(admin.map_err(|error| error::kafka("no admin client", error))?);
        Ok(self.admin.get_or_init(|| admin).clone())
    }

    fn options(&self) -> AdminOptions {
        AdminOptions::new()
            .request_timeout(Some(self.config.limit))
            .operation_timeout(Some(self.config.limit))
    }

    /// How topics are; none for one that does not exist.
    pub(crate) async fn shapes(&self, names: &[String]) -> Result<Vec<Option<Shape>>> {
        let mut found = Vec::with_capacity(names.len());
        for full in names {
            found.push(self.metadata(full).await?);
        }
        let existing = names
            .iter()
            .zip(&found)
            .filter(|(_, found)| found.is_some());
        let asked: Vec<_> = existing
            .map(|(full, _)| ResourceSpecifier::Topic(full))
            .collect();
        if asked.is_empty() {
            return Ok(vec![None; names.len()]);
        }
        let doing = "asking for the settings of topics";
        let described = self
            .admin()?
            .describe_configs(&asked, &self.options())
            .await;
        let described = described.map_err(|error| self.admin_error(doing, error))?;
        let mut described = described.into_iter();
        let mut shapes = Vec::with_capacity(names.len());
        for (full, found) in names.iter().zip(found) {
            let Some((partitions, replication)) = found else {
                shapes.push(None);
                continue;
            };
            let settings = described.next().ok_or_else(|| error::silent(doing))?;
            let settings =
                settings.map_err(|code| error::of_code(doing, code).with("topic", full))?;
            let number = |name| {
                let value = settings.get(name).and_then(|entry| entry.value.as_deref());
                value.and_then(|value| value.parse::<i64>().ok())
            };
            shapes.push(Some(Shape {
                partitions,
                replication,
                retention_ms: number("retention.ms").unwrap_or(-1),
                retention_bytes: number("retention.bytes").unwrap_or(-1),
            }));
        }
        Ok(shapes)
    }

    /// Makes a topic and waits until brokers know it. Says whether it was made: somebody else may have.
    pub(crate) async fn make(&self, shape: &NewShape) -> Result<bool> {
        let replication = shape.replication.map_or(-1, i32::from);
        let settings = [
            (
                "retention.ms",
                shape.retention_ms.map(|age| age.to_string()),
            ),
            (
                "retention.bytes",
                shape.retention_bytes.map(|bytes| bytes.to_string()),
            ),
        ];
        let mut new = NewTopic::new(
            &shape.full,
            shape.partitions,
            TopicReplication::Fixed(replication),
        );
        // The brokers' clock says when an event came: a publisher's that jumps would have its events refused, or
        // dropped by retention.
        new = new.set("message.timestamp.type", "LogAppendTime");
        for (name, value) in &settings {
            if let Some(value) = value {
                new = new.set(name, value);
            }
        }
        let doing = "making a topic";
        let made = self.admin()?.create_topics([&new], &self.options()).await;
        let made = made.map_err(|error| self.admin_error(doing, error))?;
        let made = match made.into_iter().next() {
            Some(Ok(_)) => true,
            Some(Err((_, Code::TopicAlreadyExists))) => false,
            Some(Err((_, code))) => {
                return Err(error::of_code(doing, code)
                    .with("topic", &shape.full)
                    .with("partitions", shape.partitions)
                    .with("replication", replication));
            }
            None => return Err(error::silent(doing)),
        };
        let until = Instant::now() + self.config.limit;
        while self.partitions(&shape.full).await?.is_none() {
            if Instant::now() >= until {
                let message = "the topic was made, and its partitions have no leader yet";
                return Err(error::silent(message).with("topic", &shape.full));
            }
            tokio::time::sleep(KNOWN_PAUSE).await;
        }
        Ok(made)
    }

    fn admin_error(&self, doing: &'static str, error: rdkafka::error::KafkaError) -> Error {
        match &error {
            rdkafka::error::KafkaError::AdminOp(
                Code::OperationTimedOut | Code::BrokerTransportFailure | Code::RequestTimedOut,
            ) => self.faults.unreachable(&self.config),
            _ => error::kafka(doing, error),
        }
    }

    /// Makes a topic exist in this shape.
    pub(crate) async fn declare(&self, spec: &TopicSpec) -> Result<()> {
        spec.check()?;
        let known = self.declared.lock().get(&spec.name).cloned();
        // Groups need nothing: one without a position starts at the earliest event.
        if known.is_some_and(|known| known.is_same_topic(spec)) {
            return Ok(());
        }
        let wanted = self.wanted(spec);
        let mut found = self.shape(&wanted.full).await?;
        if found.is_none() && !self.make(&wanted).await? {
            found = self.shape(&wanted.full).await?;
        }
        if let Some(found) = found {
            same(spec, &wanted, &found)?;
        }
        self.look_up(&spec.name).await?;
        let mut declared = self.declared.lock();
        declared.insert(spec.name.clone(), spec.clone());
        Ok(())
    }

    async fn shape(&self, full: &str) -> Result<Option<Shape>> {
        let mut shapes = self.shapes(&[full.to_owned()]).await?;
        Ok(shapes.pop().flatten())
    }

    fn wanted(&self, spec: &TopicSpec) -> NewShape {
        let millis = |age: Duration| i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        // Kafka bounds each partition by itself.
        let share = |bytes: u64| {
            let share = bytes.div_ceil(u64::from(spec.partitions)).max(1);
            i64::try_from(share).unwrap_or(i64::MAX)
        };
        NewShape {
            full: self.config.full(&spec.name),
            partitions: i32::from(spec.partitions),
            replication: self.config.replication,
            retention_ms: Some(spec.retention.map_or(-1, millis)),
            retention_bytes: Some(spec.retention_bytes.map_or(-1, share)),
        }
    }
}

/// Whether a topic is what was declared; how many brokers keep it is the operator's affair.
fn same(spec: &TopicSpec, wanted: &NewShape, found: &Shape) -> Result<()> {
    let expected = (
        wanted.partitions,
        wanted.retention_ms,
        wanted.retention_bytes,
    );
    let found = (
        found.partitions,
        Some(found.retention_ms),
        Some(found.retention_bytes),
    );
    if expected == found {
        return Ok(());
    }
    let told = |(partitions, age, bytes): (i32, Option<i64>, Option<i64>)| {
        let (age, bytes) = (age.unwrap_or(-1), bytes.unwrap_or(-1));
        format!("partitions {partitions}, retention.ms {age}, retention.bytes {bytes}")
    };
    let message = "the topic exists in another shape";
    Err(Error::conflict("kafka_topic_conflict", message)
        .with("topic", &spec.name)
        .with("expected", told(expected))
        .with("found", told(found)))
}
