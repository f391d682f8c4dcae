//! Conformance suites, fault injection and real servers for tests.
