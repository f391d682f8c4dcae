CREATE TABLE contacts (
    user_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    email TEXT NOT NULL
);

CREATE TABLE orders (
    order_id TEXT PRIMARY KEY,
    order_number TEXT NOT NULL,
    user_id TEXT NOT NULL,
    total_minor BIGINT NOT NULL,
    currency TEXT NOT NULL
);

CREATE TABLE mails (
    event_id TEXT PRIMARY KEY,
    subject_id TEXT NOT NULL,
    template TEXT NOT NULL,
    recipient TEXT NOT NULL,
    sent_at TEXT NOT NULL
);
