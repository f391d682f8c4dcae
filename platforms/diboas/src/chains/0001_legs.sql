CREATE TABLE legs (
    provider TEXT NOT NULL,
    key TEXT NOT NULL,
    chain TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount_minor BIGINT NOT NULL,
    -- done, reversed, or void: it will never be done.
    status TEXT NOT NULL,
    tx_hash TEXT NOT NULL,
    PRIMARY KEY (provider, key)
);
CREATE TABLE faults (
    provider TEXT PRIMARY KEY,
    mode TEXT NOT NULL
);
