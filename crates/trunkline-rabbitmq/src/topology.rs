//! A platform's exchanges, queues and bindings from a file: what would be made, what is there, what is in conflict.
//!
//! ```no_run
//! # async fn apply(rabbit: trunkline_rabbitmq::RabbitMq, text: &str) -> trunkline_core::Result<()> {
//! use trunkline_rabbitmq::topology::{apply, plan, read};
//!
//! let topology = read(text)?;
//! let plan = plan(&rabbit, &topology).await?;
//! println!("{plan}");
//! apply(&rabbit, &plan).await?;
//! # Ok(())
//! # }
//! ```

mod plan;

use bytestring::ByteString;
use serde::Deserialize;
use trunkline_core::{Error, Result};

pub use self::plan::{Outcome, Plan, Step, apply, plan};

/// The longest name of an exchange or a queue, and the longest routing key.
const NAME_BYTES_MAX: usize = 255;
/// The kinds of exchanges that every server has.
const KINDS: [&str; 4] = ["topic", "direct", "fanout", "headers"];

/// What a file declares.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Topology {
    /// The exchanges, in the order of the file.
    #[serde(default)]
    pub exchanges: Vec<Exchange>,
    /// The queues, in the order of the file.
    #[serde(default)]
    pub queues: Vec<Queue>,
}

/// An exchange of the file. Names stand as they are: the prefix of the URL is not put before them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Exchange {
    /// Its name.
    pub name: ByteString,
    /// `topic`, `direct`, `fanout` or `headers`; `topic` if it is missing.
    #[serde(rename = "type", default = "topic")]
    pub kind: ByteString,
    /// Whether it survives a restart of the server; it does if this is missing.
    #[serde(default = "yes")]
    pub durable: bool,
}

/// A queue of the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Queue {
    /// Its name.
    pub name: ByteString,
    /// Whether it survives a restart of the server; it does if this is missing.
    #[serde(default = "yes")]
    pub durable: bool,
    /// What it gets.
    #[serde(default)]
    pub bindings: Vec<Binding>,
}

/// What a queue gets of an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Binding {
    /// The exchange.
    pub exchange: ByteString,
    /// The pattern of routing keys; empty if it is missing.
    #[serde(default)]
    pub routing_key: ByteString,
}

fn topic() -> ByteString {
    ByteString::from_static("topic")
}

fn yes() -> bool {
    true
}

/// Reads a file of exchanges and queues.
///
/// # Shape
/// ```yaml
/// exchanges:
///   - name: order.exchange
///     type: topic
///     durable: true
/// queues:
///   - name: payment.order.queue
///     durable: true
///     bindings:
///       - exchange: order.exchange
///         routing_key: order.created
/// ```
///
/// # Errors
/// `InvalidInput`, code `topology_invalid`, saying where and what was expected.
pub fn read(text: &str) -> Result<Topology> {
    let topology: Topology = yaml_serde::from_str(text).map_err(|error| {
        let message = "the file is no topology of exchanges and queues";
        invalid(message, error.to_string())
    })?;
    for exchange in &topology.exchanges {
        check_name(&exchange.name)?;
        if !KINDS.contains(&&*exchange.kind) {
            let found = format!("{} of {}", exchange.kind, exchange.name);
            return Err(invalid(
                "expected the type topic, direct, fanout or headers",
                found,
            ));
        }
    }
    let bindings = |queue: &Queue| queue.bindings.clone();
    for queue in &topology.queues {
        check_name(&queue.name)?;
    }
    for binding in topology.queues.iter().flat_map(bindings) {
        check_name(&binding.exchange)?;
        if binding.routing_key.len() > NAME_BYTES_MAX {
            let message = "expected a routing key of at most 255 bytes";
            return Err(invalid(message, binding.routing_key.to_string()));
        }
    }
    let exchanges = topology.exchanges.iter().map(|exchange| &exchange.name);
    twice(exchanges)?;
    twice(topology.queues.iter().map(|queue| &queue.name))?;
    Ok(topology)
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(invalid(
            "expected a name of 1 to 255 bytes",
            name.to_owned(),
        ));
    }
    Ok(())
}

fn twice<'a>(names: impl Iterator<Item = &'a ByteString>) -> Result<()> {
    let mut known = std::collections::HashSet::new();
    for name in names {
        if !known.insert(name) {
            return Err(invalid("a name is declared twice", name.to_string()));
        }
    }
    Ok(())
}

fn invalid(message: &'static str, found: String) -> Error {
    Error::invalid("topology_invalid", message).with("found", found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
# Exchange Configuration
exchanges:
  - name: order.exchange
    type: topic
    durable: true
queues:
  - name: notification.order.queue
    durable: true
    bindings:
      - exchange: order.exchange
        routing_key: order.*
";

    #[test]
    fn the_seeds_file_is_read_as_it_stands() {
        let topology = read(FILE).unwrap();
        assert_eq!(topology.exchanges.len(), 1);
        let queue = topology.queues.first().unwrap();
        assert_eq!(
            (&*queue.name, queue.durable),
            ("notification.order.queue", true)
        );
        let binding = queue.bindings.first().unwrap();
        assert_eq!(
            (&*binding.exchange, &*binding.routing_key),
            ("order.exchange", "order.*")
        );
    }

    #[test]
    fn a_wrong_file_names_the_mistake() {
        let doubled = "exchanges: [{name: a}, {name: a}]";
        for (text, found) in [
            ("exchanges: 5", "exchanges"),
            ("exchanges: [{name: a, kind: topic}]", "kind"),
            ("exchanges: [{name: a, type: round}]", "round of a"),
            ("queues: [{name: ''}]", "1 to 255"),
            ("topics: []", "topics"),
            (doubled, "twice"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.code(), "topology_invalid");
            assert!(format!("{error:?}").contains(found), "{text}: {error:?}");
        }
    }
}
