//! Trunkline: how services talk to each other. The crate that authors import.
