//! The service's own store: transactions, outbox, inbox, idempotency keys, dead letters and the event trail.
