//! Services, platforms, configuration and the declared topology.
