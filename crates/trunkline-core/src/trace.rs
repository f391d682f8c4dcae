//! W3C trace context, version 00.

use std::fmt;
use std::str::FromStr;

use crate::{Env, Error};

/// Where in a trace a piece of work stands: the `traceparent` of W3C Trace Context, level 1.
///
/// # Source
/// <https://www.w3.org/TR/trace-context/#traceparent-header>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace, never all zero.
    pub trace_id: u128,
    /// The span within the trace, never zero.
    pub span_id: u64,
    /// Whether whoever began the trace asked for it to be recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// The root of a new trace.
    pub fn root(env: &Env) -> Self {
        Self {
            trace_id: env.random_u128().max(1),
            span_id: env.random_u64().max(1),
            sampled: true,
        }
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(&self, env: &Env) -> Self {
        Self {
            span_id: env.random_u64().max(1),
            ..*self
        }
    }
}

impl TraceContext {
    /// The header's text; it is written at every hop, so without the machinery of formatting.
    pub fn text(&self) -> [u8; TEXT_BYTES] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let (_, rest) = text.split_at_mut(3);
        let (trace, rest) = rest.split_at_mut(32);
        put_hex(trace, &self.trace_id.to_be_bytes());
        let (_, rest) = rest.split_at_mut(1);
        let (span, rest) = rest.split_at_mut(16);
        put_hex(span, &self.span_id.to_be_bytes());
        let (_, flags) = rest.split_at_mut(1);
        put_hex(flags, &[u8::from(self.sampled)]);
        text
    }

    /// The trace's id as headers and logs write it: 32 digits.
    pub fn trace_hex(&self) -> [u8; 32] {
        let mut text = [0; 32];
        put_hex(&mut text, &self.trace_id.to_be_bytes());
        text
    }

    /// `None` for what is no `traceparent`. A later version may add fields; version 00 may not, and ff is forbidden.
    fn read(text: &[u8]) -> Option<Self> {
        let (fields, more) = text.split_first_chunk::<TEXT_BYTES>()?;
        let [v0, v1, b'-', rest @ ..] = fields else {
            return None;
        };
        let version = hex(&[*v0, *v1])?;
        let (high, rest) = rest.split_first_chunk::<16>()?;
        let (low, rest) = rest.split_first_chunk::<16>()?;
        let (span, flags) = rest.strip_prefix(b"-")?.split_first_chunk::<16>()?;
        let trace_id = u128::from(hex(high)?) << 64 | u128::from(hex(low)?);
        let span_id = hex(span)?;
        let flags = hex(flags.strip_prefix(b"-")?)?;
        let ends = more.is_empty() || (version > 0 && more.starts_with(b"-"));
        if version == 0xff || !ends || trace_id == 0 || span_id == 0 {
            return None;
        }
        Some(Self {
            trace_id,
            span_id,
            sampled: flags & 1 == 1,
        })
    }
}

/// Version, trace, span and flags, with what separates them.
const TEXT_BYTES: usize = 2 + 1 + 32 + 1 + 16 + 1 + 2;

fn put_hex(into: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or(b'0');
    for (pair, byte) in into.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
}

/// The number that lower-case digits stand for, at most 16 of them.
fn hex(digits: &[u8]) -> Option<u64> {
    let (mut number, mut strange) = (0, false);
    for digit in digits {
        let (decimal, letter) = (digit.wrapping_sub(b'0'), digit.wrapping_sub(b'a'));
        let value = if decimal < 10 {
            decimal
        } else {
            letter.wrapping_add(10)
        };
        strange |= decimal >= 10 && letter >= 6;
        number = (number << 4) | u64::from(value & 15);
    }
    (!strange).then_some(number)
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for TraceContext {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::read(text.as_bytes()).ok_or_else(|| {
            Error::invalid(
                "traceparent_invalid",
                "expected 00-<32 hex>-<16 hex>-<2 hex>",
            )
        })
    }
}

#[cfg(test)]
mod tests;
