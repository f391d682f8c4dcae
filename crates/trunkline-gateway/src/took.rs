//! How long something took, as the access line tells it.

use std::time::Duration;

/// The most that one takes: a number of 20 digits, a point, 9 digits and a unit.
const BYTES_MAX: usize = 34;

/// A duration in the words of its `Debug`, without what formatting costs.
pub(crate) struct Took {
    bytes: [u8; BYTES_MAX],
    begin: usize,
}

impl Took {
    pub(crate) fn new(took: Duration) -> Self {
        let (seconds, nanos) = (took.as_secs(), took.subsec_nanos());
        let (whole, rest, digits, unit) = match (seconds, nanos) {
            (0, ..1_000) => (u64::from(nanos), 0, 0, "ns"),
            (0, ..1_000_000) => (u64::from(nanos / 1_000), nanos % 1_000, 3, "µs"),
            (0, _) => (u64::from(nanos / 1_000_000), nanos % 1_000_000, 6, "ms"),
            _ => (seconds, nanos, 9, "s"),
        };
        let mut text = Self {
            bytes: [0; BYTES_MAX],
            begin: BYTES_MAX,
        };
        unit.bytes().rev().for_each(|byte| text.put(byte));
        text.fraction(rest, digits);
        text.number(whole);
        text
    }

    pub(crate) fn as_str(&self) -> &str {
        let written = self.bytes.get(self.begin..).unwrap_or_default();
        std::str::from_utf8(written).unwrap_or_default()
    }

    /// Writes from the end to the beginning.
    fn put(&mut self, byte: u8) {
        self.begin = self.begin.saturating_sub(1);
        if let Some(place) = self.bytes.get_mut(self.begin) {
            *place = byte;
        }
    }

    /// The digits behind the point, up to the last one that is not zero.
    fn fraction(&mut self, mut rest: u32, digits: u32) {
        if rest == 0 {
            return;
        }
        let mut left = digits;
        while rest.is_multiple_of(10) {
            rest /= 10;
            left -= 1;
        }
        for _ in 0..left {
            self.digit(u64::from(rest));
            rest /= 10;
        }
        self.put(b'.');
    }

    fn number(&mut self, mut number: u64) {
        self.digit(number);
        while number >= 10 {
            number /= 10;
            self.digit(number);
        }
    }

    /// The last digit of a number.
    fn digit(&mut self, number: u64) {
        let digit = b"0123456789".get((number % 10) as usize);
        self.put(digit.copied().unwrap_or(b'0'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_debug_says() {
        let nanos = [0, 1, 10, 999, 1_000, 1_001, 1_010, 1_200, 56_789, 999_999];
        let more = [1_000_000, 1_000_001, 18_694_653, 100_000_000, 999_999_999];
        for nanos in nanos.into_iter().chain(more) {
            for seconds in [0, 1, 9, 10, 12_345, u64::MAX] {
                let took = Duration::new(seconds, nanos);
                assert_eq!(Took::new(took).as_str(), format!("{took:?}"));
            }
        }
    }
}
