CREATE TABLE contacts (
    user_id TEXT PRIMARY KEY,
    email TEXT NOT NULL
);

CREATE TABLE mails (
    event_id TEXT PRIMARY KEY,
    recipient TEXT NOT NULL,
    subject TEXT NOT NULL,
    sent_at TEXT NOT NULL
);
