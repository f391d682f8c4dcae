//! Topics with captures: `vending/{machine_id}/status`.

use std::fmt;

use bytestring::ByteString;
use trunkline_core::{Error, Result};

/// The most levels of a pattern.
const LEVELS_MAX: usize = 16;
/// The longest pattern and the longest topic, in bytes.
pub(crate) const TOPIC_BYTES_MAX: usize = 512;
/// The longest name of a device, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// A topic with captures, such as `vending/{machine_id}/status`: each capture stands for one level.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: ByteString,
    levels: Vec<Level>,
}

#[derive(Clone, PartialEq, Eq)]
enum Level {
    Text(String),
    Capture(ByteString),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// `InvalidInput` for one without a capture, with an empty level, a wildcard, a `$` or the same capture twice.
    pub fn new(text: &str) -> Result<Self> {
        let bad =
            |why: &'static str| Error::invalid("device_topic_invalid", why).with("topic", text);
        if text.is_empty() || text.len() > TOPIC_BYTES_MAX {
            return Err(bad("expected a topic of 1 to 512 bytes"));
        }
        let mut levels = Vec::new();
        let mut names = Vec::new();
        for part in text.split('/') {
            let inner = part
                .strip_prefix('{')
                .and_then(|part| part.strip_suffix('}'));
            levels.push(match inner {
                Some(name) if is_capture(name) && !names.contains(&name) => {
                    names.push(name);
                    Level::Capture(name.into())
                }
                None if !part.is_empty() && part.bytes().all(is_plain) => {
                    Level::Text(part.to_owned())
                }
                _ => {
                    return Err(bad(
                        "expected levels of letters, digits, `.`, `_`, `:` and `-`, or a `{capture}` of its own name",
                    ));
                }
            });
        }
        if names.is_empty() || levels.len() > LEVELS_MAX {
            return Err(bad("expected 1 to 16 levels, a `{capture}` among them"));
        }
        Ok(Self {
            text: text.into(),
            levels,
        })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of its captures, in order.
    pub fn captures(&self) -> impl Iterator<Item = &ByteString> {
        self.levels.iter().filter_map(|level| match level {
            Level::Capture(name) => Some(name),
            Level::Text(_) => None,
        })
    }

    /// The filter to subscribe to: `vending/+/status`.
    pub fn filter(&self) -> String {
        self.join(|_| "+")
    }

    /// The topic of one device: every capture is its name. For patterns with one capture.
    pub(crate) fn of_device(&self, device: &str) -> String {
        self.join(|_| device)
    }

    fn join<'a>(&'a self, capture: impl Fn(&str) -> &'a str) -> String {
        let levels = self.levels.iter().map(|level| match level {
            Level::Text(text) => text.as_str(),
            Level::Capture(name) => capture(name),
        });
        levels.collect::<Vec<_>>().join("/")
    }

    /// What the captures stand for in `topic`; none when it is another topic, or a name in it is no name.
    pub(crate) fn matches<'t>(&self, topic: &'t str) -> Option<Vec<(ByteString, &'t str)>> {
        if topic.len() > TOPIC_BYTES_MAX {
            return None;
        }
        let mut found = Vec::new();
        let mut parts = topic.split('/');
        for level in &self.levels {
            let part = parts.next()?;
            match level {
                Level::Text(text) if text == part => {}
                Level::Capture(name) if is_name(part) => found.push((name.clone(), part)),
                _ => return None,
            }
        }
        parts.next().is_none().then_some(found)
    }

    /// Whether one topic may match both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let same = |(one, two): (&Level, &Level)| match (one, two) {
            (Level::Text(one), Level::Text(two)) => one == two,
            _ => true,
        };
        self.levels.len() == other.levels.len() && self.levels.iter().zip(&other.levels).all(same)
    }
}

/// Whether a text can be a device's name: 1 to 64 letters, digits, `.`, `_`, `:` and `-`.
///
/// It becomes a level of topics, a key of events and a line of the broker's files: so it has no wildcard, no `/`, no `$`
/// and no space.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(is_plain)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-')
}

fn is_capture(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(fits)
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_captures_one_level_and_nothing_that_is_no_name() {
        let pattern = Pattern::new("shops/{shop_id}/vending/{machine_id}/status").unwrap();
        assert_eq!(pattern.filter(), "shops/+/vending/+/status");
        let found = pattern.matches("shops/s1/vending/m-7/status").unwrap();
        let found: Vec<_> = found.iter().map(|(name, is)| (&**name, *is)).collect();
        assert_eq!(found, [("shop_id", "s1"), ("machine_id", "m-7")]);
        let long = format!("shops/s1/vending/{}/status", "m".repeat(65));
        for topic in [
            "shops/s1/vending/m7",
            "shops/s1/vending/m7/status/more",
            "shops//vending/m7/status",
            "shops/+/vending/#/status",
            "shops/s 1/vending/m7/status",
            "shops/s\u{e9}/vending/m7/status",
            "$SYS/s1/vending/m7/status",
            long.as_str(),
            "",
        ] {
            assert!(pattern.matches(topic).is_none(), "{topic}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "status",
            "a/{}",
            "a//{b}",
            "a/+/{b}",
            "a/#",
            "$SYS/{b}",
            "a/{b}/{b}",
            "a/x{b}",
            "{B}",
            "a/{b}/",
        ] {
            assert!(Pattern::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn overlap_is_seen() {
        let of = |text| Pattern::new(text).unwrap();
        assert!(of("a/{b}/c").overlaps(&of("a/{x}/{y}")));
        assert!(of("a/{b}/c").overlaps(&of("{x}/q/c")));
        assert!(!of("a/{b}/c").overlaps(&of("a/{b}/d")));
        assert!(!of("a/{b}/c").overlaps(&of("a/{b}")));
    }
}
