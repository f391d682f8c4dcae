CREATE TABLE payments (
    order_id TEXT PRIMARY KEY,
    payment_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    amount_minor BIGINT NOT NULL,
    currency TEXT NOT NULL,
    card_token TEXT NOT NULL,
    -- processing, succeeded, failed or refunded
    status TEXT NOT NULL,
    reason TEXT,
    -- 1 once the order has failed: whatever was charged must be given back.
    order_failed BIGINT NOT NULL,
    transaction_id TEXT,
    provider_transaction_id TEXT
);

CREATE TABLE cards (
    user_id TEXT PRIMARY KEY,
    token TEXT NOT NULL
);

CREATE TABLE transaction_numbers (
    year BIGINT PRIMARY KEY,
    last BIGINT NOT NULL
);
