//! Calls between services: one channel, in process or over the network.
