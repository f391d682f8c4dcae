//! The web store.
fn main() {}
