-- What was ordered and where it goes, as the mail says it.
ALTER TABLE orders ADD COLUMN pieces BIGINT NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN ship_to TEXT NOT NULL DEFAULT '';
