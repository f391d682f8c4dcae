CREATE TABLE payments (
    order_id TEXT PRIMARY KEY,
    payment_id TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL,
    amount_minor BIGINT NOT NULL,
    -- succeeded, failed, refunded, or voided: the order will never be charged.
    status TEXT NOT NULL,
    reason TEXT,
    refund_id TEXT
);
