CREATE TABLE orders (
    order_id TEXT PRIMARY KEY,
    order_number TEXT NOT NULL,
    user_id TEXT NOT NULL,
    -- pending, confirmed or failed; abandoned if its stock was held and it never came to be.
    status TEXT NOT NULL,
    reason TEXT,
    total_minor BIGINT NOT NULL,
    currency TEXT NOT NULL,
    shipping_address TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);

CREATE INDEX orders_by_user ON orders (user_id, order_id);

CREATE TABLE order_lines (
    order_id TEXT NOT NULL REFERENCES orders (order_id),
    place BIGINT NOT NULL,
    product_id TEXT NOT NULL,
    variant_id TEXT,
    name TEXT NOT NULL,
    quantity BIGINT NOT NULL,
    price_minor BIGINT NOT NULL,
    PRIMARY KEY (order_id, place)
);

CREATE TABLE order_numbers (
    year BIGINT PRIMARY KEY,
    last BIGINT NOT NULL
);
