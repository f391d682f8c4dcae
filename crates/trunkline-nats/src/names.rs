//! How topics and groups are called on the server.
//!
//! A topic's name is ASCII letters, digits, `.`, `_` and `-`; so `=` and `+` are free to escape with and
//! to call our own things by, and no two names meet.

use bytestring::ByteString;
use trunkline_core::{Error, Result};

use crate::percent::push_hex;

/// The names of one prefix.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    prefix: ByteString,
}

/// JetStream's bound is 255; the partition's number and its dash need up to 6.
const GROUP_BYTES_MAX: usize = 240;

impl Names {
    pub(crate) fn new(prefix: ByteString) -> Self {
        Self { prefix }
    }

    /// The stream of a topic: `.` is not allowed there, `=` stands for it.
    pub(crate) fn stream(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix).replace('.', "=")
    }

    /// The subject of a topic, before `.` and the partition.
    pub(crate) fn topic(&self, topic: &str) -> String {
        let mut subject = String::with_capacity(self.prefix.len() + topic.len());
        for (n, token) in format!("{}{topic}", self.prefix).split('.').enumerate() {
            if n > 0 {
                subject.push('.');
            }
            // A subject has no empty tokens.
            subject.push_str(if token.is_empty() { "=" } else { token });
        }
        subject
    }

    /// The subject of a topic's partition.
    pub(crate) fn partition(&self, topic: &str, partition: u16) -> String {
        format!("{}.{partition}", self.topic(topic))
    }

    /// The stream that keeps who is in which group.
    pub(crate) fn groups(&self) -> String {
        format!("{}+groups", self.stream(""))
    }

    /// The subject of a group's record on a topic; with `*` for both, of all of them.
    pub(crate) fn group(&self, group: &str, topic: &str) -> String {
        format!("{}.{group}.{topic}", self.own("+group"))
    }

    /// Where the server tells that a group's record was written.
    pub(crate) fn group_changed(&self, group: &str, topic: &str) -> String {
        format!("{}.{group}.{topic}", self.own("+changed"))
    }

    fn own(&self, name: &str) -> String {
        self.topic(name)
    }
}

/// A group's name as a token of a subject and in the name of a consumer: whatever is not an ASCII letter,
/// a digit, `_` or `-` is written as `=XX`.
pub(crate) fn group(name: &str) -> Result<String> {
    let mut written = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') {
            written.push(char::from(byte));
        } else {
            push_hex(&mut written, '=', byte);
        }
    }
    if written.is_empty() || written.len() > GROUP_BYTES_MAX {
        let message = "expected a group's name of 1 to 240 bytes, where all but letters, digits, \
                       `_` and `-` count as three";
        return Err(Error::invalid("group_name_invalid", message).with("group", name));
    }
    Ok(written)
}

/// The durable consumer of a group, as [`group`] wrote it, for a partition.
pub(crate) fn consumer(group: &str, partition: u16) -> String {
    format!("{group}-{partition}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const TOPICS: [&str; 10] = [
        "orders",
        "orders.high",
        "orders_high",
        "orders-high",
        "a..b",
        "a.b",
        ".a",
        "a.",
        ".",
        "0",
    ];

    #[test]
    fn no_two_topics_meet() {
        let names = Names::new("shop.".into());
        let streams: HashSet<_> = TOPICS.iter().map(|topic| names.stream(topic)).collect();
        let subjects: HashSet<_> = TOPICS.iter().map(|topic| names.topic(topic)).collect();
        assert_eq!(
            (streams.len(), subjects.len()),
            (TOPICS.len(), TOPICS.len())
        );
        for stream in streams.into_iter().chain([names.groups()]) {
            assert!(
                !stream.contains(['.', '*', '>', '/', '\\', ' ']),
                "{stream}"
            );
        }
        for subject in subjects {
            assert!(
                subject.split('.').all(|token| !token.is_empty()),
                "{subject}"
            );
            assert!(!subject.contains(['*', '>', '+']), "{subject}");
        }
    }

    #[test]
    fn names_are_readable() {
        let names = Names::new(ByteString::new());
        assert_eq!(names.stream("orders.high"), "orders=high");
        assert_eq!(names.partition("orders.high", 3), "orders.high.3");
        assert_eq!(names.partition("a..b", 0), "a.=.b.0");
        assert_eq!(names.groups(), "+groups");
        assert_eq!(
            consumer(&group("payment service").unwrap(), 2),
            "payment=20service-2"
        );
    }

    #[test]
    fn no_two_groups_meet() {
        let all = ["g", "g.1", "g=2E1", "g 1", "g-1", "ü", "=20", " "];
        let names: HashSet<_> = all.iter().map(|name| group(name).unwrap()).collect();
        assert_eq!(names.len(), all.len());
        assert!(group("").is_err());
        assert!(group(&"ü".repeat(41)).is_err());
    }
}
