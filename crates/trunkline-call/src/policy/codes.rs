//! Codes of gRPC, as policies name them.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The names in the order of their numbers, from 0.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Some of gRPC's status codes.
///
/// # Shape
/// Read from a list of names, in capitals or not, or of numbers from 1 to 16. `OK` is no reason for anything.
///
/// # Source
/// <https://grpc.io/docs/guides/status-codes/>
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct GrpcCodes(u32);

impl GrpcCodes {
    /// These codes; what is none is left out.
    pub fn of(codes: impl IntoIterator<Item = u16>) -> Self {
        let known = codes.into_iter().filter(|code| (1..=16).contains(code));
        Self(known.fold(0, |bits, code| bits | (1 << code)))
    }

    /// Whether a code is one of them.
    pub fn has(self, code: u16) -> bool {
        code < 32 && self.0 & (1 << code) != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for GrpcCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let codes = (0_u16..).zip(NAMES).filter(|(code, _)| self.has(*code));
        f.debug_set().entries(codes.map(|(_, name)| name)).finish()
    }
}

/// One code.
struct Code(u16);

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct One;
        impl Visitor<'_> for One {
            type Value = Code;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a code of gRPC such as \"UNAVAILABLE\", or its number from 1 to 16")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Code, E> {
                let mut known = (0_u16..).zip(NAMES).skip(1);
                let found = known.find(|(_, known)| known.eq_ignore_ascii_case(name));
                let unexpected = serde::de::Unexpected::Str(name);
                found
                    .map(|(code, _)| Code(code))
                    .ok_or_else(|| E::invalid_value(unexpected, &self))
            }

            fn visit_u64<E: serde::de::Error>(self, code: u64) -> Result<Code, E> {
                let found = u16::try_from(code)
                    .ok()
                    .filter(|code| (1..=16).contains(code));
                let unexpected = serde::de::Unexpected::Unsigned(code);
                found
                    .map(Code)
                    .ok_or_else(|| E::invalid_value(unexpected, &self))
            }

            fn visit_i64<E: serde::de::Error>(self, code: i64) -> Result<Code, E> {
                self.visit_u64(u64::try_from(code).unwrap_or(u64::MAX))
            }
        }
        from.deserialize_any(One)
    }
}

impl<'de> Deserialize<'de> for GrpcCodes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Many;
        impl<'de> Visitor<'de> for Many {
            type Value = GrpcCodes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of codes of gRPC")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<GrpcCodes, A::Error> {
                let mut codes = GrpcCodes::default();
                while let Some(Code(code)) = list.next_element()? {
                    codes.0 |= GrpcCodes::of([code]).0;
                }
                if codes.is_empty() {
                    return Err(A::Error::custom("expected at least one code of gRPC"));
                }
                Ok(codes)
            }
        }
        from.deserialize_seq(Many)
    }
}
