//! The records of a batch that are not events: where its events stand, topics, groups, positions.

use std::time::Duration;

use bytestring::ByteString;
use trunkline_bus::TopicSpec;

use crate::format::Fields;

/// A record of the journal about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meta {
    /// The batch holds `count` events of a slot, from offset `base`.
    Place { slot: u32, base: u64, count: u32 },
    /// A topic, with the slot of its first partition; again when its retention changes.
    Topic { first_slot: u32, spec: TopicSpec },
    /// A durable group.
    Group { id: u32, name: ByteString },
    /// A group's position: every offset of the slot below it is done.
    Position { group: u32, slot: u32, offset: u64 },
    /// What a slot holds: from `base` to below `next`.
    Bounds { slot: u32, base: u64, next: u64 },
    /// A segment that exists.
    Live { segment: u32 },
    /// A segment that is deleted.
    Retired { segment: u32 },
    /// A group that is forgotten.
    Forgotten { group: u32 },
    /// Offsets of a slot, from `from` to below `to`, that a repair gave up.
    Hole { slot: u32, from: u64, to: u64 },
}

impl Meta {
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        let mut put = |bytes: &[u8]| into.extend_from_slice(bytes);
        match self {
            Self::Place { slot, base, count } => {
                put(&[1]);
                put(&slot.to_le_bytes());
                put(&base.to_le_bytes());
                put(&count.to_le_bytes());
            }
            Self::Topic { first_slot, spec } => {
                put(&[2]);
                put(&first_slot.to_le_bytes());
                put(&spec.partitions.to_le_bytes());
                let age = spec.retention;
                put(&[u8::from(age.is_some()) | u8::from(spec.retention_bytes.is_some()) << 1]);
                put(&age.unwrap_or_default().as_secs().to_le_bytes());
                put(&age.unwrap_or_default().subsec_nanos().to_le_bytes());
                put(&spec.retention_bytes.unwrap_or_default().to_le_bytes());
                put(&length(&spec.name));
                put(spec.name.as_bytes());
            }
            Self::Group { id, name } => {
                put(&[3]);
                put(&id.to_le_bytes());
                put(&length(name));
                put(name.as_bytes());
            }
            Self::Position {
                group,
                slot,
                offset,
            } => {
                put(&[4]);
                put(&group.to_le_bytes());
                put(&slot.to_le_bytes());
                put(&offset.to_le_bytes());
            }
            Self::Bounds { slot, base, next } => {
                put(&[5]);
                put(&slot.to_le_bytes());
                put(&base.to_le_bytes());
                put(&next.to_le_bytes());
            }
            Self::Live { segment } => {
                put(&[6]);
                put(&segment.to_le_bytes());
            }
            Self::Retired { segment } => {
                put(&[7]);
                put(&segment.to_le_bytes());
            }
            Self::Forgotten { group } => {
                put(&[8]);
                put(&group.to_le_bytes());
            }
            Self::Hole { slot, from, to } => {
                put(&[9]);
                put(&slot.to_le_bytes());
                put(&from.to_le_bytes());
                put(&to.to_le_bytes());
            }
        }
    }
}

/// The longest name of a topic or group.
pub(crate) const NAME_BYTES_MAX: usize = 200;

fn length(name: &ByteString) -> [u8; 2] {
    u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes()
}

/// The meta records of a body. Ends early, with `None`, at what is none.
#[derive(Debug)]
pub(crate) struct Metas<'a>(Fields<'a>);

impl<'a> Metas<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(Fields(bytes))
    }

    fn read(&mut self) -> Option<Meta> {
        let fields = &mut self.0;
        let [tag] = fields.array()?;
        Some(match tag {
            1 => Meta::Place {
                slot: fields.u32()?,
                base: fields.u64()?,
                count: fields.u32()?,
            },
            2 => read_topic(fields)?,
            3 => Meta::Group {
                id: fields.u32()?,
                name: read_name(fields)?,
            },
            4 => Meta::Position {
                group: fields.u32()?,
                slot: fields.u32()?,
                offset: fields.u64()?,
            },
            5 => Meta::Bounds {
                slot: fields.u32()?,
                base: fields.u64()?,
                next: fields.u64()?,
            },
            6 => Meta::Live {
                segment: fields.u32()?,
            },
            7 => Meta::Retired {
                segment: fields.u32()?,
            },
            8 => Meta::Forgotten {
                group: fields.u32()?,
            },
            9 => Meta::Hole {
                slot: fields.u32()?,
                from: fields.u64()?,
                to: fields.u64()?,
            },
            _ => return None,
        })
    }
}

impl Iterator for Metas<'_> {
    type Item = Option<Meta>;

    fn next(&mut self) -> Option<Self::Item> {
        // A tag of zero is the padding at the end.
        if self.0.0.first().is_none_or(|tag| *tag == 0) {
            return None;
        }
        let meta = self.read();
        if meta.is_none() {
            self.0 = Fields(&[]);
        }
        Some(meta)
    }
}

fn read_topic(fields: &mut Fields<'_>) -> Option<Meta> {
    let first_slot = fields.u32()?;
    let partitions = fields.u16()?;
    let [flags] = fields.array()?;
    let seconds = fields.u64()?;
    let nanos = fields.u32()?;
    let bytes = fields.u64()?;
    if partitions == 0 || nanos >= 1_000_000_000 || flags > 3 {
        return None;
    }
    let name = read_name(fields)?;
    let spec = TopicSpec {
        name,
        partitions,
        retention: (flags & 1 != 0).then_some(Duration::new(seconds, nanos)),
        retention_bytes: (flags & 2 != 0).then_some(bytes),
        groups: Vec::new(),
    };
    Some(Meta::Topic { first_slot, spec })
}

fn read_name(fields: &mut Fields<'_>) -> Option<ByteString> {
    let bytes = fields.u16()? as usize;
    let text = std::str::from_utf8(fields.take(bytes)?).ok()?;
    Some(ByteString::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back() {
        let all = [
            Meta::Place {
                slot: 1,
                base: 2,
                count: 3,
            },
            Meta::Topic {
                first_slot: 4,
                spec: TopicSpec {
                    name: "orders".into(),
                    partitions: 8,
                    retention: Some(Duration::from_millis(1500)),
                    retention_bytes: None,
                    groups: Vec::new(),
                },
            },
            Meta::Group {
                id: 5,
                name: "grüße".into(),
            },
            Meta::Position {
                group: 5,
                slot: 4,
                offset: 9,
            },
            Meta::Bounds {
                slot: 1,
                base: 2,
                next: 3,
            },
            Meta::Live { segment: 6 },
            Meta::Retired { segment: 6 },
            Meta::Forgotten { group: 5 },
            Meta::Hole {
                slot: 4,
                from: 1,
                to: 2,
            },
        ];
        let mut bytes = Vec::new();
        for meta in &all {
            meta.encode(&mut bytes);
        }
        bytes.extend_from_slice(&[0; 5]);
        let read: Vec<Meta> = Metas::new(&bytes).map(Option::unwrap).collect();
        assert_eq!(read, all);
        for cut in 1..bytes.len() - 5 {
            // Cut anywhere, it ends: with a record that is none, or between two.
            assert!(Metas::new(&bytes[..cut]).count() <= all.len());
        }
    }
}
