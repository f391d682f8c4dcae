-- Whether the machine was told to vend.
ALTER TABLE sales ADD COLUMN commanded BIGINT NOT NULL DEFAULT 0;
-- Whether the piece fell although it was paid back: the shop bears it.
ALTER TABLE sales ADD COLUMN fell_late BIGINT NOT NULL DEFAULT 0;
