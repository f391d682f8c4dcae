//! Routes and a request of any bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| trunkline_gateway::fuzzing::router(bytes));
