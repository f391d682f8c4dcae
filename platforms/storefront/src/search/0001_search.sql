CREATE TABLE documents (
    product_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    brand TEXT NOT NULL,
    category TEXT NOT NULL,
    description TEXT NOT NULL,
    price_minor BIGINT NOT NULL,
    currency TEXT NOT NULL,
    in_stock BIGINT NOT NULL,
    -- The revision of the stock that in_stock is from.
    stock_revision BIGINT NOT NULL
);
