//! The names of keys. All of a topic's carry the hash tag `{topic}`, so that a cluster keeps them
//! together and the scripts, each of which is about one topic, stay legal there.

use bytestring::ByteString;

#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: ByteString,
}

impl Keys {
    pub(crate) fn new(prefix: ByteString) -> Self {
        Self { prefix }
    }

    /// The hash that holds a topic's shape. It names the Pub/Sub channel of a light topic, too.
    pub(crate) fn topic(&self, topic: &str) -> ByteString {
        format!("{}{{{topic}}}", self.prefix).into()
    }

    /// The stream of a partition.
    pub(crate) fn stream(&self, topic: &str, partition: u16) -> ByteString {
        format!("{}{{{topic}}}:{partition}", self.prefix).into()
    }

    /// The string that names the member of a group that has a partition.
    pub(crate) fn lease(&self, topic: &str, partition: u16, group: &str) -> ByteString {
        format!("{}{{{topic}}}:{partition}:lease:{group}", self.prefix).into()
    }

    /// The sorted set of a group's members, by when each is given up.
    pub(crate) fn members(&self, topic: &str, group: &str) -> ByteString {
        format!("{}{{{topic}}}:members:{group}", self.prefix).into()
    }

    /// The stream that tells a group's members to look who has what.
    pub(crate) fn changes(&self, topic: &str, group: &str) -> ByteString {
        format!("{}{{{topic}}}:changes:{group}", self.prefix).into()
    }

    /// The stream that ends a member's own wait.
    pub(crate) fn wake(&self, member: &str) -> ByteString {
        format!("{}wake:{member}", self.prefix).into()
    }
}
