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

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace_id,
            self.span_id,
            u8::from(self.sampled)
        )
    }
}

impl FromStr for TraceContext {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || {
            Error::invalid(
                "traceparent_invalid",
                "expected 00-<32 hex>-<16 hex>-<2 hex>",
            )
        };
        let mut parts = text.split('-');
        let (Some(version), Some(trace), Some(span), Some(flags)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let lower_hex = |s: &str| {
            s.bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let shapes = [(version, 2), (trace, 32), (span, 16), (flags, 2)];
        let well_formed = shapes
            .iter()
            .all(|(s, len)| s.len() == *len && lower_hex(s));
        // A later version may add fields; version 00 may not, and ff is forbidden.
        if !well_formed || version == "ff" || (version == "00" && parts.next().is_some()) {
            return Err(bad());
        }
        let trace_id = u128::from_str_radix(trace, 16).map_err(|_| bad())?;
        let span_id = u64::from_str_radix(span, 16).map_err(|_| bad())?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| bad())?;
        if trace_id == 0 || span_id == 0 {
            return Err(bad());
        }
        Ok(Self {
            trace_id,
            span_id,
            sampled: flags & 1 == 1,
        })
    }
}

#[cfg(test)]
mod tests;
