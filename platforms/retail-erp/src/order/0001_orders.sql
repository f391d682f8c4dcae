CREATE TABLE orders (
    order_id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    shop_id TEXT NOT NULL,
    -- confirmed or cancelled
    status TEXT NOT NULL,
    reason TEXT,
    -- JSON; empty for an order that was cancelled before it was placed.
    items TEXT NOT NULL,
    total_minor BIGINT NOT NULL,
    payment_id TEXT,
    created_at TEXT NOT NULL
);

CREATE INDEX orders_by_user ON orders (user_id, created_at);
CREATE INDEX orders_by_payment ON orders (payment_id);

-- What payment-service told of payments.
CREATE TABLE receipts (
    order_id TEXT PRIMARY KEY,
    payment_id TEXT NOT NULL,
    amount_minor BIGINT NOT NULL,
    gateway TEXT NOT NULL
);
