-- What was said at a table: the last of it is kept.
CREATE TABLE chat (
    message_id TEXT PRIMARY KEY,
    game_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    username TEXT NOT NULL,
    body TEXT NOT NULL,
    at TEXT NOT NULL,
    at_ms BIGINT NOT NULL
);
CREATE INDEX chat_by_game ON chat (game_id, at_ms);
-- How whoever has come to a table is called.
CREATE TABLE visitors (
    user_id TEXT PRIMARY KEY,
    username TEXT NOT NULL
);
