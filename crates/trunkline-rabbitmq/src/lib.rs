//! RabbitMQ as a transport: topic exchanges, confirms, manual acknowledgements.
