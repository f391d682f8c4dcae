CREATE TABLE carts (
    cart_id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE
);

CREATE TABLE cart_items (
    item_id TEXT PRIMARY KEY,
    cart_id TEXT NOT NULL REFERENCES carts (cart_id),
    product_id TEXT NOT NULL,
    -- Empty where no variant was chosen.
    variant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    price_minor BIGINT NOT NULL,
    currency TEXT NOT NULL,
    quantity BIGINT NOT NULL CHECK (quantity > 0),
    UNIQUE (cart_id, product_id, variant_id)
);

-- What an order was asked to take from a cart; it is taken when the order exists.
CREATE TABLE checkouts (
    order_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    quantity BIGINT NOT NULL,
    PRIMARY KEY (order_id, item_id)
);
