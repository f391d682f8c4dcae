CREATE TABLE charges (
    key TEXT PRIMARY KEY,
    amount_minor BIGINT NOT NULL,
    -- pending, succeeded, declined, voided or refunded
    status TEXT NOT NULL,
    reason TEXT
);
