//! Redis: Streams for durable events, Pub/Sub for light ones.
