//! The crate as its users see it.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod derive;
mod sdk;
