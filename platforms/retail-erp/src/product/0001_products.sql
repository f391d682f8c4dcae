CREATE TABLE products (
    product_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    price_minor BIGINT NOT NULL
);

CREATE TABLE places (
    product_id TEXT NOT NULL,
    shop_id TEXT NOT NULL,
    stock BIGINT NOT NULL,
    PRIMARY KEY (product_id, shop_id)
);
