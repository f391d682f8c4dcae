//! A real Redis server for tests.
