CREATE TABLE counters (
    -- ISO 8601, in UTC.
    day TEXT NOT NULL,
    name TEXT NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (day, name)
);

CREATE TABLE sales (
    day TEXT NOT NULL,
    product_id TEXT NOT NULL,
    quantity BIGINT NOT NULL,
    revenue_minor BIGINT NOT NULL,
    PRIMARY KEY (day, product_id)
);

-- What was ordered, until it is known whether it was sold.
CREATE TABLE pending_orders (
    order_id TEXT PRIMARY KEY,
    total_minor BIGINT NOT NULL,
    items TEXT NOT NULL
);
