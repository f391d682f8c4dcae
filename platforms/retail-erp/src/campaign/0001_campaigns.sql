CREATE TABLE campaigns (
    campaign_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    -- Where and for what; null is everywhere, and everything.
    shop_id TEXT,
    product_id TEXT,
    percent_off BIGINT NOT NULL CHECK (percent_off BETWEEN 1 AND 100),
    -- In Unix seconds; the end is not part of it.
    begins_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL
);
