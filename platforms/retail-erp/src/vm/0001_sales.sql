CREATE TABLE machines (
    machine_id TEXT PRIMARY KEY,
    -- online or offline
    status TEXT NOT NULL
);

CREATE TABLE sales (
    order_id TEXT PRIMARY KEY,
    machine_id TEXT NOT NULL,
    -- The machine's own id of it; null while only the order is known.
    sale_id TEXT,
    -- vending, vended, refused or refunded
    status TEXT NOT NULL,
    reason TEXT,
    UNIQUE (machine_id, sale_id)
);
