CREATE TABLE profiles (
    user_id TEXT PRIMARY KEY,
    username TEXT NOT NULL,
    full_name TEXT NOT NULL,
    email TEXT NOT NULL
);

CREATE TABLE addresses (
    address_id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    address TEXT NOT NULL
);

CREATE INDEX addresses_by_user ON addresses (user_id, address_id);
