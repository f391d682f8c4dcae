//! Sagas: declared flows of events, and durable orchestration.
