//! A real RabbitMQ server for tests.
