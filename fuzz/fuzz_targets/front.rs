//! Requests of HTTP/1.1 of any bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| trunkline_gateway::fuzzing::front(bytes));
