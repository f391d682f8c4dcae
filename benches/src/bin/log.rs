//! The log against a bare file and other embedded stores. Under construction.
fn main() {}
