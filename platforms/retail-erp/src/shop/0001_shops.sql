CREATE TABLE shops (
    shop_id TEXT PRIMARY KEY,
    name TEXT NOT NULL
);

CREATE TABLE devices (
    device_id TEXT PRIMARY KEY,
    shop_id TEXT NOT NULL REFERENCES shops (shop_id),
    -- The shop whose stock it counts: its own, if it is a vending machine. One counts at most.
    counts_stock_of TEXT UNIQUE,
    status TEXT NOT NULL,
    -- In Unix seconds; 0 is never.
    last_seen BIGINT NOT NULL
);

CREATE INDEX devices_by_shop ON devices (shop_id);

CREATE TABLE slots (
    machine_id TEXT NOT NULL REFERENCES devices (device_id),
    slot TEXT NOT NULL,
    product_id TEXT NOT NULL,
    PRIMARY KEY (machine_id, slot)
);

-- When a device came and went.
CREATE TABLE device_history (
    device_id TEXT NOT NULL,
    -- In Unix seconds.
    at BIGINT NOT NULL,
    status TEXT NOT NULL,
    PRIMARY KEY (device_id, at, status)
);
