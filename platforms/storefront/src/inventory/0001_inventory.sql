CREATE TABLE products (
    product_id TEXT PRIMARY KEY,
    -- Counts every change of the product's stock; taken first, it is the product's lock.
    revision BIGINT NOT NULL
);

CREATE TABLE stock (
    product_id TEXT NOT NULL REFERENCES products (product_id),
    warehouse_id TEXT NOT NULL,
    on_hand BIGINT NOT NULL CHECK (on_hand >= 0),
    reserved BIGINT NOT NULL CHECK (reserved >= 0 AND reserved <= on_hand),
    PRIMARY KEY (product_id, warehouse_id)
);

CREATE TABLE reservations (
    reservation_id TEXT PRIMARY KEY,
    order_id TEXT NOT NULL UNIQUE,
    -- held, expired, finalised or released
    status TEXT NOT NULL,
    expires_at TEXT NOT NULL
);

CREATE TABLE reservation_lines (
    reservation_id TEXT NOT NULL REFERENCES reservations (reservation_id),
    product_id TEXT NOT NULL,
    warehouse_id TEXT NOT NULL,
    quantity BIGINT NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (reservation_id, product_id, warehouse_id)
);
