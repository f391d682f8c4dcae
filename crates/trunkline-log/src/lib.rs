//! The embedded durable log and its transport.
