//! A real Kafka server for tests.
