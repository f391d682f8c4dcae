CREATE TABLE transactions (
    transaction_id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    recipient TEXT NOT NULL,
    from_chain TEXT NOT NULL,
    to_chain TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount_minor BIGINT NOT NULL,
    -- processing, completed or failed.
    status TEXT NOT NULL,
    reason TEXT,
    created_at TEXT NOT NULL
);
CREATE INDEX transactions_of_user ON transactions (user_id, created_at);
CREATE TABLE legs (
    transaction_id TEXT NOT NULL,
    leg TEXT NOT NULL,
    provider TEXT NOT NULL,
    chain TEXT NOT NULL,
    tx_hash TEXT NOT NULL,
    PRIMARY KEY (transaction_id, leg)
);
