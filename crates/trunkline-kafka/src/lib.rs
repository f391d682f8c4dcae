//! Apache Kafka as a transport: keys, groups, partitions.
