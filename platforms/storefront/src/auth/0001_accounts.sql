CREATE TABLE accounts (
    -- Lower case.
    username TEXT PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE,
    email TEXT NOT NULL,
    -- A PHC string: algorithm, cost, salt and hash.
    password_hash TEXT NOT NULL,
    created_at TEXT NOT NULL
);
