CREATE TABLE accounts (
    -- Lower case, as the name is.
    email TEXT PRIMARY KEY,
    username TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL UNIQUE,
    -- A PHC string: algorithm, cost, salt and hash.
    password_hash TEXT NOT NULL,
    created_at TEXT NOT NULL
);
