CREATE TABLE screenings (
    transaction_id TEXT PRIMARY KEY,
    -- Why it was stopped; none if it may go.
    reason TEXT
);
