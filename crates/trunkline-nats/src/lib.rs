//! NATS JetStream as a transport.
