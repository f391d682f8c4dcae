CREATE TABLE device_credentials (
    device_id TEXT PRIMARY KEY,
    -- The device's line of the broker's password file: a salted hash.
    line TEXT NOT NULL
);
