//! A stream entry's id: milliseconds and a number within them.

use std::fmt;

/// How many bits of an offset the number within a millisecond has.
const SEQUENCE_BITS: u32 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Id {
    pub(crate) millis: u64,
    pub(crate) sequence: u64,
}

impl Id {
    /// Before every entry.
    pub(crate) const ZERO: Self = Self {
        millis: 0,
        sequence: 0,
    };

    /// After every entry.
    pub(crate) const MAX: Self = Self {
        millis: u64::MAX,
        sequence: u64::MAX,
    };

    /// The id as Redis writes it.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (millis, sequence) = text.split_once('-')?;
        Some(Self {
            millis: millis.parse().ok()?,
            sequence: sequence.parse().ok()?,
        })
    }

    /// The offset that stands for it: `milliseconds << 20 | number`. It rises with the id as long as a
    /// millisecond has less than a million entries.
    pub(crate) fn offset(self) -> u64 {
        if self.millis > u64::MAX >> SEQUENCE_BITS {
            return u64::MAX;
        }
        (self.millis << SEQUENCE_BITS).saturating_add(self.sequence)
    }

    /// The id right before the one that an offset stands for: reading after it begins at the offset.
    pub(crate) fn before_offset(offset: u64) -> Self {
        let id = Self {
            millis: offset >> SEQUENCE_BITS,
            sequence: offset & ((1 << SEQUENCE_BITS) - 1),
        };
        id.before()
    }

    /// The last id before a millisecond.
    pub(crate) fn before_millis(millis: u64) -> Self {
        Self {
            millis,
            sequence: 0,
        }
        .before()
    }

    fn before(self) -> Self {
        match (self.millis, self.sequence) {
            (0, 0) => Self::ZERO,
            (millis, 0) => Self {
                millis: millis - 1,
                sequence: u64::MAX,
            },
            (millis, sequence) => Self {
                millis,
                sequence: sequence - 1,
            },
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_as_redis_writes_it() {
        let id = Id::parse(b"1526919030474-55").unwrap();
        assert_eq!((id.millis, id.sequence), (1_526_919_030_474, 55));
        assert_eq!(id.to_string(), "1526919030474-55");
        for text in ["", "1", "a-1", "1-", "-1", "99999999999999999999-0"] {
            assert_eq!(Id::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn an_offset_names_its_id_and_rises_with_it() {
        let ids = ["1-0", "1-1", "2-0", "1526919030474-55"].map(|id| Id::parse(id.as_bytes()));
        let offsets = ids.map(|id| id.unwrap().offset());
        assert!(offsets.is_sorted());
        assert_eq!(Id::before_offset(offsets[1]).to_string(), "1-0");
        assert_eq!(
            Id::before_offset(offsets[2]).to_string(),
            format!("1-{}", u64::MAX)
        );
        assert_eq!(Id::before_offset(0), Id::ZERO);
        let far = Id {
            millis: u64::MAX,
            sequence: u64::MAX,
        };
        assert_eq!(far.offset(), u64::MAX, "what can't be told is the largest");
    }
}
