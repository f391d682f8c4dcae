CREATE TABLE sales (
    order_id TEXT PRIMARY KEY,
    shop_id TEXT NOT NULL,
    day TEXT NOT NULL,
    pieces BIGINT NOT NULL,
    total_minor BIGINT NOT NULL,
    -- 1 if it was given back.
    returned BIGINT NOT NULL DEFAULT 0
);

CREATE INDEX sales_by_shop ON sales (shop_id, day);

CREATE TABLE stock (
    shop_id TEXT NOT NULL,
    product_id TEXT NOT NULL,
    stock BIGINT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (shop_id, product_id)
);
