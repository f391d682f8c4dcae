CREATE TABLE stock (
    shop_id TEXT NOT NULL,
    product_id TEXT NOT NULL,
    on_hand BIGINT NOT NULL CHECK (on_hand >= 0),
    reserved BIGINT NOT NULL CHECK (reserved >= 0),
    minimum BIGINT NOT NULL,
    -- When a device last counted it, in microseconds: sales before are part of the count.
    counted_at BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (shop_id, product_id)
);

CREATE TABLE reservations (
    order_id TEXT PRIMARY KEY,
    shop_id TEXT NOT NULL,
    -- held, expired, taken, released or returned; released also for an order that nothing may be held for.
    status TEXT NOT NULL,
    expires_at TEXT NOT NULL
);

CREATE TABLE reservation_lines (
    order_id TEXT NOT NULL REFERENCES reservations (order_id),
    product_id TEXT NOT NULL,
    quantity BIGINT NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, product_id)
);

CREATE TABLE stock_history (
    shop_id TEXT NOT NULL,
    product_id TEXT NOT NULL,
    -- In microseconds.
    at BIGINT NOT NULL,
    -- ordered, sold, returned, delivered, set or counted
    cause TEXT NOT NULL,
    change BIGINT NOT NULL,
    -- The order, where there is one.
    order_id TEXT
);

CREATE INDEX stock_history_by_place ON stock_history (shop_id, product_id, at);
