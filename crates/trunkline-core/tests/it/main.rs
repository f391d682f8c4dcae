//! The crate as its users see it.

mod derive;
mod sdk;
