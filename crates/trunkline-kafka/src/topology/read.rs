//! The file: which topics and groups it declares.

use std::collections::HashSet;

use bytestring::ByteString;
use trunkline_core::{Error, Result};

use super::tree::{Kind, Node, parse};
use super::{Group, Topic, Topology};

/// The longest name that Kafka takes.
const NAME_BYTES_MAX: usize = 249;

/// Reads a file of topics and consumer groups.
///
/// # Shape
/// ```yaml
/// topics:
///   - name: order-events
///     partitions: 6
///     replication_factor: 3     # what the cluster is set to, if it is missing
///     retention_ms: 604800000   # -1 for ever; what the cluster is set to, if it is missing
///     retention_bytes: -1       # of each partition; likewise
/// consumer_groups:
///   - name: payment-service-group
///     topics: [order-events]
/// ```
///
/// # Errors
/// `InvalidInput`, code `topology_invalid`, with all mistakes at once, each with its line.
pub fn read(text: &str) -> Result<Topology> {
    let mut mistakes = Mistakes::default();
    let mut topology = Topology::default();
    let root = parse(text)?;
    for (key, value) in mistakes.fields(&root, "the file", &["topics", "consumer_groups"]) {
        for item in mistakes.list(value, key) {
            if key == "topics" {
                topology.topics.extend(topic(&mut mistakes, item));
            } else {
                topology.groups.extend(group(&mut mistakes, item));
            }
        }
    }
    let mut names = HashSet::new();
    for topic in &topology.topics {
        if !names.insert(&topic.name) {
            mistakes.tell(
                topic.line,
                format!("topic {:?} is declared twice", &*topic.name),
            );
        }
    }
    let mut names = HashSet::new();
    for group in &topology.groups {
        if !names.insert(&group.name) {
            mistakes.tell(
                group.line,
                format!("group {:?} is declared twice", &*group.name),
            );
        }
    }
    mistakes.done(topology)
}

fn topic(mistakes: &mut Mistakes, node: &Node) -> Option<Topic> {
    const FIELDS: [&str; 5] = [
        "name",
        "partitions",
        "replication_factor",
        "retention_ms",
        "retention_bytes",
    ];
    let mut topic = Topic {
        line: node.line,
        name: ByteString::new(),
        partitions: 0,
        replication: None,
        retention_ms: None,
        retention_bytes: None,
    };
    let fields = mistakes.fields(node, "a topic", &FIELDS);
    let found: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    for (name, value) in fields {
        match name {
            "name" => topic.name = mistakes.name(value, name)?,
            "partitions" => {
                // Trunkline numbers partitions in 16 bits.
                let count = mistakes.number(value, name, 1..=i64::from(u16::MAX))?;
                topic.partitions = i32::try_from(count).ok()?;
            }
            "replication_factor" => {
                let count = mistakes.number(value, name, 1..=i64::from(i16::MAX))?;
                topic.replication = u16::try_from(count).ok();
            }
            "retention_ms" => {
                topic.retention_ms = Some(mistakes.number(value, name, -1..=i64::MAX)?);
            }
            _ => topic.retention_bytes = Some(mistakes.number(value, name, -1..=i64::MAX)?),
        }
    }
    mistakes.required(node, "a topic", &["name", "partitions"], &found);
    Some(topic)
}

fn group(mistakes: &mut Mistakes, node: &Node) -> Option<Group> {
    let mut group = Group {
        line: node.line,
        name: ByteString::new(),
        topics: Vec::new(),
    };
    let fields = mistakes.fields(node, "a consumer group", &["name", "topics"]);
    let found: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    for (name, value) in fields {
        if name == "name" {
            group.name = mistakes.name(value, name)?;
        } else {
            for topic in mistakes.list(value, name) {
                group.topics.extend(mistakes.name(topic, "a topic"));
            }
        }
    }
    mistakes.required(node, "a consumer group", &["name", "topics"], &found);
    Some(group)
}

/// What is wrong with the file, in the order of its lines.
#[derive(Default)]
struct Mistakes(Vec<(usize, String)>);

impl Mistakes {
    fn tell(&mut self, line: usize, text: String) {
        self.0.push((line, text));
    }

    fn wrong(&mut self, node: &Node, what: &str, expected: &str) {
        let text = format!("{what}: expected {expected}, found {node}");
        self.tell(node.line, text);
    }

    /// The known fields of a mapping.
    fn fields<'a>(
        &mut self,
        node: &'a Node,
        what: &str,
        known: &[&'static str],
    ) -> Vec<(&'static str, &'a Node)> {
        let Kind::Mapping(parts) = &node.kind else {
            let expected = format!("a mapping with {}", known.join(", "));
            self.wrong(node, what, &expected);
            return Vec::new();
        };
        let mut fields: Vec<(&'static str, &Node)> = Vec::new();
        for (key, value) in parts {
            let name = match &key.kind {
                Kind::Text(text) => known.iter().find(|name| *name == text),
                _ => None,
            };
            match name {
                None => {
                    let expected = known.join(", ");
                    let text = format!("unknown field {key} in {what}: expected one of {expected}");
                    self.tell(key.line, text);
                }
                Some(name) if fields.iter().any(|(given, _)| given == name) => {
                    self.tell(key.line, format!("field {key} of {what} is given twice"));
                }
                Some(name) => fields.push((name, value)),
            }
        }
        fields
    }

    fn required(&mut self, node: &Node, what: &str, names: &[&str], found: &[&str]) {
        if !matches!(node.kind, Kind::Mapping(_)) {
            return;
        }
        for name in names.iter().filter(|name| !found.contains(name)) {
            self.tell(node.line, format!("{what} has no field `{name}`"));
        }
    }

    fn list<'a>(&mut self, node: &'a Node, what: &str) -> &'a [Node] {
        match &node.kind {
            Kind::List(items) => items,
            _ => {
                self.wrong(node, what, "a list");
                &[]
            }
        }
    }

    fn name(&mut self, node: &Node, what: &str) -> Option<ByteString> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        match &node.kind {
            Kind::Text(text)
                if (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed) =>
            {
                Some(text.as_str().into())
            }
            _ => {
                let expected = "a name of 1 to 249 ASCII letters, digits, `.`, `_` and `-`";
                self.wrong(node, what, expected);
                None
            }
        }
    }

    fn number(
        &mut self,
        node: &Node,
        what: &str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        match node.kind {
            Kind::Whole(number) if range.contains(&number) => Some(number),
            _ => {
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                self.wrong(node, what, &expected);
                None
            }
        }
    }

    fn done(mut self, topology: Topology) -> Result<Topology> {
        if self.0.is_empty() {
            return Ok(topology);
        }
        self.0.sort_by_key(|(line, _)| *line);
        let lines: Vec<String> = self
            .0
            .iter()
            .map(|(line, text)| format!("line {line}: {text}"))
            .collect();
        Err(Error::invalid("topology_invalid", lines.join("\n")))
    }
}
