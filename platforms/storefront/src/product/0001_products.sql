CREATE TABLE products (
    product_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    brand TEXT NOT NULL,
    category TEXT NOT NULL,
    description TEXT NOT NULL,
    price_minor BIGINT NOT NULL,
    currency TEXT NOT NULL,
    in_stock BIGINT NOT NULL,
    -- The revision of the stock that in_stock is from.
    stock_revision BIGINT NOT NULL,
    -- Lower case: what lists are ordered by, and what they are searched in.
    sort_name TEXT NOT NULL,
    search_text TEXT NOT NULL
);

CREATE UNIQUE INDEX products_by_name ON products (sort_name, product_id);

CREATE TABLE variants (
    variant_id TEXT PRIMARY KEY,
    product_id TEXT NOT NULL REFERENCES products (product_id),
    place BIGINT NOT NULL,
    name TEXT NOT NULL,
    price_minor BIGINT NOT NULL
);

CREATE INDEX variants_by_product ON variants (product_id, place);
