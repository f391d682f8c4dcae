//! What has to be done, and doing it.

use std::fmt;

use bytestring::ByteString;
use trunkline_core::{Error, Result};

use super::{Options, Topic, Topology};
use crate::topics::{NewShape, Shape};
use crate::transport::Kafka;

/// What has to be done, and what can't be. `Display` is for people: a line for each topic and note, and a sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One for each topic, in the order of the file.
    pub steps: Vec<Step>,
    /// What is worth knowing: groups whose topics the file does not declare.
    pub notes: Vec<String>,
    replication: Option<u16>,
}

/// A topic of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The topic as the file has it.
    pub topic: Topic,
    /// Its name in the cluster.
    pub full: String,
    /// What is to be done.
    pub outcome: Outcome,
}

/// What is to be done about a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It would be made.
    Make,
    /// It is there as it is declared.
    Exists,
    /// It is there in another shape, which is not touched: what was expected and what was found.
    Conflict {
        /// As in `6 partitions, retention.ms 604800000`.
        expected: String,
        /// As in `3 partitions, retention.ms -1`.
        found: String,
    },
    /// It can't be made: the cluster has fewer brokers than are to keep it.
    Impossible {
        /// As in `3 brokers to keep it`.
        expected: String,
        /// As in `1 broker`.
        found: String,
    },
}

impl Plan {
    /// How many topics would be made.
    pub fn to_make(&self) -> usize {
        let steps = self.steps.iter();
        steps.filter(|step| step.outcome == Outcome::Make).count()
    }

    /// How many topics are in conflict with the cluster or impossible there.
    pub fn refused(&self) -> usize {
        let refused = |step: &&Step| {
            matches!(
                step.outcome,
                Outcome::Conflict { .. } | Outcome::Impossible { .. }
            )
        };
        self.steps.iter().filter(refused).count()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            let Step {
                topic,
                full,
                outcome,
            } = step;
            match outcome {
                Outcome::Make => {
                    let shape = describe(&wanted(topic, full, self.replication));
                    writeln!(f, "+ topic {full}: {shape}")?;
                }
                Outcome::Exists => writeln!(f, "= topic {full}: as declared")?,
                Outcome::Conflict { expected, found } => writeln!(
                    f,
                    "! topic {full} (line {}): expected {expected}; found {found}; left as it is",
                    topic.line
                )?,
                Outcome::Impossible { expected, found } => writeln!(
                    f,
                    "! topic {full} (line {}): expected {expected}; the cluster has {found} \
                     (--replication N overrides the file)",
                    topic.line
                )?,
            }
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        let exist = self.steps.len() - self.to_make() - self.refused();
        let (make, refused) = (self.to_make(), self.refused());
        write!(f, "{make} to make, {exist} as declared, {refused} refused")
    }
}

/// Compares the file with the cluster. Changes nothing.
///
/// # Errors
/// `Unavailable` when the cluster can't be asked, `PermissionDenied` when it does not answer to this user.
pub async fn plan(kafka: &Kafka, topology: &Topology, options: &Options) -> Result<Plan> {
    kafka.shared.crew.check()?;
    let (topics, config) = (&kafka.shared.topics, &kafka.shared.config);
    let replication = options.replication.or(config.replication);
    let names: Vec<String> = topology
        .topics
        .iter()
        .map(|topic| config.full(&topic.name))
        .collect();
    let shapes = topics.shapes(&names).await?;
    let brokers = topics.brokers().await?;
    let steps = topology.topics.iter().zip(names).zip(shapes);
    let steps = steps.map(|((topic, full), found)| {
        let wanted = wanted(topic, &full, replication);
        let outcome = match found {
            Some(found) => compare(&wanted, &found),
            None => possible(&wanted, brokers),
        };
        let topic = topic.clone();
        Step {
            topic,
            full,
            outcome,
        }
    });
    let steps = steps.collect();
    let undeclared = undeclared(topology);
    let full: Vec<String> = undeclared
        .iter()
        .map(|(_, topic)| config.full(topic))
        .collect();
    let found = topics.shapes(&full).await?;
    let notes = undeclared.iter().zip(found).map(|((group, topic), found)| {
        let cluster = match found {
            Some(_) => "the cluster has it",
            None => "the cluster does not have it either",
        };
        format!("group {group} reads {topic}, which the file does not declare; {cluster}")
    });
    Ok(Plan {
        steps,
        notes: notes.collect(),
        replication,
    })
}

/// Makes what the plan says is to be made; says how many topics were made. What is in conflict or impossible
/// stays as it is.
///
/// # Errors
/// `Conflict`: somebody else made a topic in another shape since the plan was made; the others of [`plan`].
pub async fn apply(kafka: &Kafka, plan: &Plan) -> Result<usize> {
    kafka.shared.crew.check()?;
    let topics = &kafka.shared.topics;
    let mut made = 0;
    for step in plan
        .steps
        .iter()
        .filter(|step| step.outcome == Outcome::Make)
    {
        let wanted = wanted(&step.topic, &step.full, plan.replication);
        if topics.make(&wanted).await? {
            made += 1;
            continue;
        }
        let found = topics.shapes(std::slice::from_ref(&step.full)).await?;
        if let Some(Some(found)) = found.first()
            && let Outcome::Conflict { expected, found } = compare(&wanted, found)
        {
            let message = "the topic exists in another shape";
            return Err(Error::conflict("kafka_topic_conflict", message)
                .with("topic", &step.full)
                .with("expected", expected)
                .with("found", found));
        }
    }
    Ok(made)
}

fn wanted(topic: &Topic, full: &str, replication: Option<u16>) -> NewShape {
    NewShape {
        full: full.to_owned(),
        partitions: topic.partitions,
        replication: replication.or(topic.replication),
        retention_ms: topic.retention_ms,
        retention_bytes: topic.retention_bytes,
    }
}

fn compare(wanted: &NewShape, found: &Shape) -> Outcome {
    let is_same = wanted.partitions == found.partitions
        && wanted
            .replication
            .is_none_or(|count| usize::from(count) == found.replication)
        && wanted
            .retention_ms
            .is_none_or(|age| age == found.retention_ms)
        && wanted
            .retention_bytes
            .is_none_or(|bytes| bytes == found.retention_bytes);
    if is_same {
        return Outcome::Exists;
    }
    // Told in the same words, as far as the file says anything.
    let found = NewShape {
        full: wanted.full.clone(),
        partitions: found.partitions,
        replication: wanted
            .replication
            .and(u16::try_from(found.replication).ok()),
        retention_ms: wanted.retention_ms.map(|_| found.retention_ms),
        retention_bytes: wanted.retention_bytes.map(|_| found.retention_bytes),
    };
    Outcome::Conflict {
        expected: describe(wanted),
        found: describe(&found),
    }
}

fn possible(wanted: &NewShape, brokers: usize) -> Outcome {
    match wanted.replication {
        Some(count) if usize::from(count) > brokers => Outcome::Impossible {
            expected: format!("{} to keep it", counted(u64::from(count), "broker")),
            found: counted(brokers as u64, "broker"),
        },
        _ => Outcome::Make,
    }
}

fn describe(shape: &NewShape) -> String {
    let partitions = u64::try_from(shape.partitions).unwrap_or(0);
    let mut text = counted(partitions, "partition");
    if let Some(count) = shape.replication {
        text += &format!(", replication {count}");
    }
    if let Some(age) = shape.retention_ms {
        text += &format!(", retention.ms {age}");
    }
    if let Some(bytes) = shape.retention_bytes {
        text += &format!(", retention.bytes {bytes}");
    }
    text
}

fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Which groups read what the file does not declare.
fn undeclared(topology: &Topology) -> Vec<(&ByteString, &ByteString)> {
    let is_declared = |name: &ByteString| topology.topics.iter().any(|topic| topic.name == *name);
    let all = topology
        .groups
        .iter()
        .flat_map(|group| group.topics.iter().map(move |topic| (&group.name, topic)));
    all.filter(|(_, topic)| !is_declared(topic)).collect()
}
