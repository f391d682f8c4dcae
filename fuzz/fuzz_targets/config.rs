//! Kong files of any bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| trunkline_gateway::fuzzing::config(bytes));
